"""What is dropped as a whole: single weights, blocks, rows, heads, neurons, layers, several of these, or tokens."""

import re
from dataclasses import dataclass
from typing import Literal, cast

Kind = Literal[
    "unstructured",
    "block",
    "row",
    "neuron",
    "head",
    "structured",
    "hybrid",
    "multilevel",
    "n_m",
    "layer",
    "vocabulary",
]

_BLOCKS = re.compile(r"(block|hybrid|multilevel)(?::([1-9]\d{0,3})x([1-9]\d{0,3}))?")
_USUAL_BLOCK = (32, 32)
_N_M = re.compile(r"([1-9]\d?):([1-9]\d?)")
_PLAIN: tuple[Kind, ...] = ("unstructured", "row", "neuron", "head", "structured", "layer", "vocabulary")


@dataclass(frozen=True)
class Granularity:
    """What is dropped as a whole. `shape` is (rows, columns) of a block, or (N zeros, M inputs) for N:M.

    `row`: output rows, with their biases, of the attention output and the FFN (LEAP, released code). `structured`:
    `head` and `neuron` together. `hybrid`: blocks in the attention, neurons in the FFN (Lagunas et al. 2021).
    `multilevel`: first heads and neurons, then blocks of all that is left (LEAP, released code). `layer`: attention and
    FFN of a layer together, so that there is one layer less. `vocabulary`: tokens
    that the dataset has no use for, with their embeddings.
    """

    kind: Kind
    shape: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> "Granularity":
        """Read `structured`, `block:32x32`, `2:4` ...; raises ValueError that names the legal forms."""
        for plain in _PLAIN:
            if text == plain:
                return cls(plain)
        if match := _BLOCKS.fullmatch(text):
            return cls(cast(Kind, match[1]), (int(match[2]), int(match[3])) if match[2] else _USUAL_BLOCK)
        if (match := _N_M.fullmatch(text)) and int(match[1]) < int(match[2]):
            return cls("n_m", (int(match[1]), int(match[2])))
        raise ValueError(
            f"{text!r} is not a granularity; use one of {', '.join(_PLAIN)}, block:ROWSxCOLUMNS such as block:32x32, "
            "hybrid:ROWSxCOLUMNS, multilevel:ROWSxCOLUMNS, or N:M with N < M such as 2:4"
        )

    @property
    def removable(self) -> bool:
        """Whether all dropped units leave the model physically (the result is smaller, not only sparser)."""
        return self.kind in ("neuron", "head", "structured", "layer", "vocabulary")

    @property
    def removes(self) -> bool:
        """Whether dropped units leave the model physically: all of them, or some."""
        return self.removable or self.mixed

    @property
    def mixed(self) -> bool:
        """Whether some dropped units leave the model physically and others are zeros in what is left."""
        return self.kind in ("hybrid", "multilevel")
