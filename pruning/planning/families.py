"""Every model family by its `model_type`, and whether a config.json is of one. Imports no torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pruning.errors import InvalidModel
from pruning.planning.decoders import DECODERS
from pruning.planning.encoders import ENCODERS
from pruning.planning.family import Family
from pruning.planning.heads import causal, heads
from pruning.spec import Task

FAMILIES: Mapping[str, Family] = MappingProxyType({**ENCODERS, **DECODERS})

AUTO_CLASSES: Mapping[Task, str] = MappingProxyType({**heads("AutoModel"), **causal("AutoModelForCausalLM")})
"""The transformers class that loads a model for each task."""

_FOREIGN: Mapping[str, str] = MappingProxyType(
    {
        "auto_map": "it asks for code of its own",
        "layer_sizes": "its layers are already uneven",
        "quantization_config": "its weights are quantized",
        "is_decoder": "it is a decoder",
        "add_cross_attention": "it attends to a second model",
    }
)


def family_of(config: Mapping[str, Any]) -> Family:
    """The entry for a config.json; raises InvalidModel for an unsupported family or variant of a family."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise InvalidModel(
            f"model_type {model_type!r:.100} in config.json is not supported.",
            param="/model",
            remedy=f"Supported are the encoders {_names(decoder=False)}, and the decoders {_names(decoder=True)}.",
        )
    family = FAMILIES[model_type]
    foreign = [(name, reason) for name, reason in _FOREIGN.items() if config.get(name)]
    if family.disentangled and _projects_positions(config):
        foreign.append(("share_att_key", "its positions have projections of their own"))
    for name, reason in foreign:
        raise InvalidModel(
            f"The model cannot be pruned because {reason} ({name} in config.json).",
            param="/model",
            remedy="Send a plain encoder or decoder, as save_pretrained writes it.",
        )
    return family


def _names(*, decoder: bool) -> str:
    return ", ".join(sorted(name for name, family in FAMILIES.items() if family.decoder is decoder))


def _projects_positions(config: Mapping[str, Any]) -> bool:
    """Whether a disentangled attention has matrices for positions alone, as the first DeBERTa had."""
    return bool(
        config.get("relative_attention") and config.get("pos_att_type") and not config.get("share_att_key")
    )
