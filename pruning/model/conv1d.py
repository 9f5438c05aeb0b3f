"""GPT-2 keeps its matrices as Conv1D, (inputs, outputs). Here they are linears, as in every other family."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class TransposedLinear(nn.Linear):
    """A linear, (outputs, inputs) in memory, whose state dict has the transposed weight: that of a Conv1D."""

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        _transpose(destination, f"{prefix}weight")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state = dict(state_dict)
        _transpose(state, f"{prefix}weight")
        super()._load_from_state_dict(state, prefix, *rest)


def _transpose(state: dict[str, Any], name: str) -> None:
    if name in state:
        state[name] = state[name].T.contiguous()


def as_linears(model: PreTrainedModel) -> PreTrainedModel:
    """Put a linear with the same numbers in the place of every Conv1D, in place; returns the model.

    `save_pretrained` writes what it would have written before.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = TransposedLinear(inputs, outputs, device="meta")
            linear.weight = nn.Parameter(module.weight.detach().T.contiguous())
            linear.bias = module.bias
            model.set_submodule(name, linear)
    return model


def as_stored(linear: nn.Linear, values: Tensor) -> Tensor:
    """A weight (outputs, inputs) or bias (outputs,) for this linear, as files hold it."""
    return values.T.contiguous() if isinstance(linear, TransposedLinear) and values.dim() == 2 else values
