"""Fill in a request that cuts the vocabulary, and refuse what means nothing for it. Imports no torch."""

from typing import Any

from pruning.errors import InvalidSpec
from pruning.options import Distill, Finetune
from pruning.planning.family import Family
from pruning.spec import PruneSpec

_MEANINGLESS: dict[str, tuple[Any, ...]] = {
    "method": ("auto", "none"),
    "settings": ({},),
    "quality_candidates": (None,),
    "target_measure": (None, "parameters"),
    "latency_batch": (None,),
    "latency_length": (None,),
    "round_to": (None, 1),
    "allocation": ("global",),
    "recover": (None, False),
}
"""By field, the values that say nothing: the dataset alone decides which tokens stay, and no answer changes."""


def settle_vocabulary(spec: PruneSpec, family: Family, trained: bool) -> PruneSpec:
    """The request with every default in place; raises InvalidSpec."""
    if family.decoder:
        raise InvalidSpec(
            "A decoder says tokens too, and could no longer say those that the dataset does not have.",
            param="/granularity",
            remedy="Send an encoder, or use another granularity.",
        )
    for name, values in _MEANINGLESS.items():
        if getattr(spec, name) not in values:
            raise InvalidSpec(
                f"{name} has no meaning with granularity vocabulary: the dataset says which tokens stay, and the "
                "model's answers do not change.",
                param=f"/{name}",
                remedy="Leave it out.",
            )
    if isinstance(spec.distill, Distill):
        raise InvalidSpec(
            "Nothing is lost with the tokens that go, so nothing is distilled.",
            param="/distill",
            remedy="Leave distill out.",
        )
    if spec.finetune is False and not trained:
        raise InvalidSpec(
            "The model has no trained head for this task.",
            param="/finetune",
            remedy="Leave finetune out, so that the head is trained first.",
        )
    finetune: Finetune | bool = spec.finetune if isinstance(spec.finetune, Finetune) else False
    if spec.finetune is True or (spec.finetune is None and not trained):
        finetune = Finetune()
    settled = {"method": "none", "finetune": finetune, "recover": False, "distill": False}
    return spec.model_copy(update=settled | {"target_measure": "parameters", "round_to": 1})
