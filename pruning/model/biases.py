"""Biases for a model that has none, where its plain config can say that it has."""

from collections.abc import Collection

import torch
from torch import nn
from transformers import PreTrainedModel

from pruning.model.layers import family, layers


def add_biases(model: PreTrainedModel, readers: Collection[nn.Linear]) -> None:
    """Give `readers` (outputs of attentions, of FFNs) biases of zeros, in place, where they have none.

    A field of config.json speaks of several matrices of all layers: these get theirs too. Raises ValueError where
    there is no such field.
    """
    names = family(model)
    wanted: set[str | bool] = set()
    for layer in layers(model):
        for reader, said in ((layer.attention_out, names.output_bias), (layer.ffn_out, names.ffn_bias)):
            if reader in readers and reader.bias is None:
                wanted.add(said)
    for said in wanted:
        if not isinstance(said, str):
            raise ValueError(f"no config of {model.config.model_type} can say that it has biases")
        setattr(model.config, said, True)
    for layer in layers(model):
        for linears, said in (
            ((layer.query, layer.key, layer.value), names.attention_bias),
            ((layer.attention_out,), names.output_bias),
            ((*layer.ffn_in, layer.ffn_out), names.ffn_bias),
        ):
            for linear in linears:
                if said in wanted and linear.bias is None:
                    zeros = torch.zeros(linear.out_features).to(linear.weight)
                    linear.bias = nn.Parameter(zeros)
