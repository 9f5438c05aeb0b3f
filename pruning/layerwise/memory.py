"""What calibration needs of memory, said before it starts, and what it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from pruning.errors import OutOfMemory
from pruning.knowledge.draw import Batch
from pruning.planning.shape import ModelShape

_FLOAT = 4


@dataclass(frozen=True)
class Need:
    """Bytes that are wanted beside the model: `hidden` states and `masks` on the host; all else is on the device.

    `masks` are those of all single weights; `statistics` those of one layer, `batch` what a forward pass of one layer
    holds, `workspace` what the method needs for its largest matrix; the last two never at once. `lighter` names what
    needs less.
    """

    hidden: int
    statistics: int
    batch: int
    workspace: int
    masks: int = 0
    lighter: str = "method wanda"

    @classmethod
    def of(
        cls,
        shape: ModelShape,
        batches: Sequence[Batch],
        statistics: int,
        workspace: int,
        *,
        masks: int = 0,
        copies: int = 1,
        lighter: str = "method wanda",
    ) -> "Need":
        """For these rows, of which one layer's hidden states are kept, in so many copies."""
        sizes = [tuple(batch.real.shape) for batch in batches]
        tokens = sum(rows * length for rows, length in sizes)
        widths = 10 * shape.hidden + 2 * (shape.ffn_inputs + 1) * shape.ffn
        largest = max(
            rows * length * (widths + 2 * shape.heads * shape.queries * length) for rows, length in sizes
        )
        hidden = copies * tokens * shape.hidden * _FLOAT
        return cls(hidden, statistics, largest * _FLOAT, workspace, masks, lighter)

    @property
    def host(self) -> int:
        """Bytes on the host, whatever the device is."""
        return self.hidden + self.masks

    @property
    def device(self) -> int:
        """Bytes on the device at the worst moment."""
        return self.statistics + max(self.batch, self.workspace)

    def check(self, device: torch.device) -> None:
        """Raise OutOfMemory, with the numbers, when host or device have less to spare."""
        free = psutil.virtual_memory().available
        if device.type == "cuda":
            self._refuse("The GPU", self.device, torch.cuda.mem_get_info(device)[0], self._cure_of_matrices())
            self._refuse("The host", self.host, free, self._cure_of_rows(free - self.masks))
            return
        fixed = self.masks + self.device
        cure = self._cure_of_rows(free - fixed) if free > fixed else self._cure_of_matrices()
        self._refuse("The machine", self.host + self.device, free, cure)

    def _cure_of_rows(self, free: int) -> str:
        part = 100 * max(0, free) // max(1, self.hidden)
        return f"Lower calibration_tokens to {part} % of what it is, or less."

    def _cure_of_matrices(self) -> str:
        return f"Use {self.lighter}, which needs least, or a machine with more memory."

    def _refuse(self, where: str, need: int, free: int, remedy: str) -> None:
        if need > free:
            raise OutOfMemory(
                f"{where} has {free / 1e9:.2f} GB of memory to spare; calibration needs {need / 1e9:.2f} GB: "
                f"{self.hidden / 1e9:.2f} for hidden states, {self.masks / 1e9:.2f} for masks, "
                f"{self.statistics / 1e9:.2f} for what linears read, "
                f"{max(self.batch, self.workspace) / 1e9:.2f} to compute with.",
                param="/method/calibration_tokens",
                remedy=remedy,
            )


class Meter:
    """How far memory rose above where it stood at the start, in bytes; on a GPU, that of its own tensors too."""

    def __init__(self, device: torch.device, model: nn.Module) -> None:
        """A `model` that was mapped from its files comes into memory first, so that it is not counted."""
        for parameter in model.parameters():
            parameter.detach().sum()
        self._device = device
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._start_on_device = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._start_on_device = torch.cuda.memory_allocated(device)

    def look(self) -> None:
        """Take note of the memory that is in use now."""
        self._peak = max(self._peak, self._process.memory_info().rss)

    def report(self, need: Need) -> Mapping[str, int]:
        """What was said before and what was seen, for the report."""
        on_device = self._device.type == "cuda"
        said = {"expected_host_bytes": need.host if on_device else need.host + need.device}
        seen = {"peak_host_bytes": self._peak - self._start}
        if on_device:
            said["expected_device_bytes"] = need.device
            peak = torch.cuda.max_memory_allocated(self._device)
            seen["peak_device_bytes"] = peak - self._start_on_device
        return said | seen
