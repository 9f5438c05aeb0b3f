"""Refit what reads the kept units of every layer, so that the hidden states are again those of the dense model.

What K-prune does for encoders (Park, Choi, Kang 2024, equation 5), for any family: the target of a sub-layer is the
dense model's hidden state plus what its sub-layer says, what is taken from it is the pruned model's hidden state. So
the fit also repairs what went wrong below.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pruning.knowledge.pulse import Pulse
from pruning.knowledge.steps import Step, Steps
from pruning.knowledge.sublayers import Affine
from pruning.knowledge.tune import NormalEquations
from pruning.layerwise.slots import Slot
from pruning.layerwise.stream import Stream

COPIES = 4
"""Of the hidden states on the host: those of the dense and of the pruned model, and what two sub-layers aim at."""
PASSES = 4
"""How often every layer is run, about: once for the dense model, for each sub-layer, and to go on."""
_DOUBLE = 8


def statistics(inputs: int, outputs: int) -> int:
    """Bytes of the normal equations of a reader."""
    return _DOUBLE * inputs * (inputs + outputs)


def workspace(inputs: int, outputs: int) -> int:
    """Bytes that are needed to solve them: a copy and a factor, the right side, old and new weight."""
    return _DOUBLE * inputs * (2 * inputs + 4 * outputs)


class Refit:
    """Climbs with the dense and the pruned model through one layer after the other; `layers` holds its two slots.

    Finished sub-layers are kept in `steps` and not solved again.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Slot, Slot]],
        dense: Stream,
        pruned: Stream,
        steps: Steps,
        pulse: Pulse,
        ridge: float,
    ) -> None:
        self._layers = layers
        self._dense = dense
        self._pruned = pruned
        self._steps = steps
        self._pulse = pulse
        self._ridge = ridge
        self._intact = True  # nothing dropped yet: the pruned model still is the dense one

    def run(self, masks: Mapping[str, Tensor]) -> dict[str, Mapping[str, float]]:
        """Prune to the masks (units,) and refit, in the model; returns notes for the report by sub-layer."""
        notes = {}
        for index, layer in enumerate(self._layers):
            self._pulse.begin(f"reading dense layer {index}", 1.0)
            aims = self._aims(index)
            for half, slot in enumerate(layer):
                kept = masks.get(slot.name, torch.ones(slot.count, dtype=torch.bool))
                step = self._steps.load(2 * index + half)
                if step is None:
                    step = self._fit(index, slot, kept, aims.pop(slot.reader))
                    self._steps.save(2 * index + half, step)
                slot.bake(step)
                self._intact = self._intact and bool(kept.all())
                notes[slot.name] = step.notes
            self._pulse.begin(f"passing layer {index}", 1.0)
            self._pruned.advance(index)
        return {name: dict(each) for name, each in notes.items() if each}

    def _aims(self, index: int) -> dict[nn.Module, list[Tensor]]:
        """What hidden states should be behind the two readers, of every batch (tokens, hidden) on the host.

        Moves the dense model up.
        """
        outputs = {slot.reader: Affine.of(slot.reader) for slot in self._layers[index]}
        aims: dict[nn.Module, list[Tensor]] = {reader: [] for reader in outputs}
        residual: list[Tensor] = []

        def see(_: int, module: nn.Module, inputs: Tensor) -> None:
            if module in outputs:
                said = outputs[module](inputs.float())
                aims[module].append((residual.pop() + said).cpu())
            else:
                residual.append(inputs.float())

        self._dense.advance(index, _modules(self._layers[index]), see)
        return aims

    def _fit(self, index: int, slot: Slot, kept: Tensor, aims: Sequence[Tensor]) -> Step:
        """What becomes of one sub-layer when the kept units (units,) stay."""
        old = slot.output(kept.to(slot.reader.weight.device))
        if self._intact and bool(kept.all()):
            return Step(kept, old, {})
        self._pulse.begin(f"refitting {slot.name}", 1.0)
        columns = slot.columns(kept.to(slot.reader.weight.device))
        equations = NormalEquations(old.weight.shape[1], len(old.weight), old.weight.device)
        residual: list[Tensor] = []

        def see(number: int, module: nn.Module, inputs: Tensor) -> None:
            if module is slot.reader:
                wanted = aims[number].to(inputs.device) - residual.pop() - old.bias
                equations.add(inputs.float()[:, columns], wanted)
            else:
                residual.append(inputs.float())

        self._pruned.read(index, _modules([slot]), see)
        fit = equations.solve(old.weight, self._ridge)
        notes = {"ridge": fit.ridge, "error_before": fit.error_before, "error_after": fit.error_after}
        return Step(kept, Affine(fit.weight, old.bias), notes)


def _modules(slots: Sequence[Slot]) -> list[nn.Module]:
    return [module for slot in slots for module in (slot.residual, slot.reader)]
