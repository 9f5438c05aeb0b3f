"""Compiled training: torch.compile on the forward and backward pass of a model."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pruning.errors import InvalidSpec


@contextmanager
def compiled(model: nn.Module, *, backend: str = "inductor") -> Iterator[None]:
    """Compile the model in place while the block runs.

    There is no wrapper, so that the names of its tensors stay what they are. One program serves batches of all
    lengths. Masks that change in place do not compile it again; masks that are frozen do, once.
    """
    model.compile(dynamic=True, backend=backend)
    try:
        yield
    finally:
        model._compiled_call_impl = None
        torch.compiler.reset()


def require_compiler(device: torch.device) -> None:
    """Raise InvalidSpec where torch.compile would find no compiler for the code that it writes."""
    if device.type == "cpu":
        language, compilers = "C++", [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
    else:  # Triton builds the launchers of its kernels
        language, compilers = "C", [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang", "cc"]
    if not any(shutil.which(name) for name in compilers):
        raise InvalidSpec(
            f"This machine has no {language} compiler ({', '.join(compilers)}), which compile needs.",
            param="/compile",
            remedy="Leave compile out, or install one on the worker.",
        )
