"""Word embeddings with fewer rows."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel


def special_ids(model: PreTrainedModel) -> dict[str, int]:
    """The ids of tokens that config.json names, by field."""
    fields = model.config.to_dict().items()
    return {
        name: value
        for name, value in fields
        if name.endswith("_token_id") and isinstance(value, int) and 0 <= value < model.config.vocab_size
    }


def cut_embeddings(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave only the rows `kept` of the word embeddings, in that order, and change the ids in its config; in place."""
    new = {old: place for place, old in enumerate(kept)}
    before = model.get_input_embeddings()
    weight = before.weight.detach()[torch.tensor(kept, device=before.weight.device)]
    padding = None if before.padding_idx is None else new[before.padding_idx]
    after = nn.Embedding(
        len(kept), weight.shape[1], padding_idx=padding, device=weight.device, dtype=weight.dtype
    )
    after.weight = nn.Parameter(weight)
    model.set_input_embeddings(after)
    for name, old in special_ids(model).items():
        setattr(model.config, name, new[old])
    model.config.vocab_size = len(kept)
