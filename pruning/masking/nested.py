"""Gates at two levels that multiply: on the heads or neurons of a sub-layer, and on the sub-layer as a whole (CoFi).

Xia, Zhong and Chen 2022 (arXiv 2204.00408), sections 3.1 and 3.2, with the constants of their released code.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.masking.hard_concrete import SHIFT, HardConcreteMask, expected, fold, perturb, sampled
from pruning.masking.lagrangian import Lagrangian
from pruning.masking.learned import LearnedMasks
from pruning.masking.rungs import from_rungs, to_rungs
from pruning.masking.select import Price, keep_within
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units

BOUND = math.log(100)
"""Scores stay between -BOUND and BOUND, where a gate can still learn."""


class NestedMask(HardConcreteMask):
    """The gates of one sub-layer: one for each unit and, with `whole`, one for all of them, multiplied.

    All gates start open. CoFi starts those of neurons half shut, which only long runs can repair.
    """

    whole_noise: Tensor
    """(1,), fp32: the log-odds that the gate of the sub-layer drew last."""

    def __init__(self, count: int, *, whole: bool) -> None:
        super().__init__(torch.full((count,), BOUND))
        self.whole = nn.Parameter(torch.full((1,), BOUND)) if whole else None
        self.register_buffer("whole_noise", torch.zeros(1), persistent=False)

    def draw(self, generator: torch.Generator) -> None:
        """Draw new noise."""
        super().draw(generator)
        perturb(self.whole_noise, generator)

    def forward(self) -> Tensor:
        """The product of the gates (count,) in fp32; 0 or 1 once it is frozen."""
        if self.whole is None or not self.learning:
            return super().forward()
        gate = sampled(self.whole, self.whole_noise) if self.training else expected(self.whole)
        return super().forward() * gate

    def steady(self) -> Tensor:
        """The product of the gates without noise, (count,)."""
        gates = super().steady()
        return gates if self.whole is None else gates * expected(self.whole.detach())

    def importance(self) -> Tensor:
        """The logarithm of the probability that both gates of a unit are open, (count,)."""
        return self.log_alive().detach()

    def log_alive(self) -> Tensor:
        """The same with gradients."""
        alive = F.logsigmoid(self.scores - SHIFT)
        return alive if self.whole is None else alive + F.logsigmoid(self.whole - SHIFT)


class NestedMasks(LearnedMasks):
    """The gates of a whole model, and the multipliers that press on them.

    `total` is the cost of the whole model, with what no group holds. With `even` there are no gates of sub-layers,
    and the final masks keep one number of units in every group.
    """

    lagrangian: Lagrangian

    def __init__(self, groups: Mapping[str, Units], total: float, *, even: bool) -> None:
        sources = {name: NestedMask(group.count, whole=not even) for name, group in groups.items()}
        super().__init__(groups, sources, total)
        self.total = total
        self.even = even
        self.lagrangian = Lagrangian()

    def scores(self) -> list[nn.Parameter]:
        """The scores of every gate, of units and of sub-layers."""
        wholes = [gate.whole for gate in self._gates().values() if gate.whole is not None]
        return [*super().scores(), *wholes]

    def remaining(self) -> Tensor:
        """The part of the model's cost that is expected to remain, 0-d, with gradients; exact once it is frozen.

        A unit remains with the probability that its gate is open times that of its sub-layer's (equation 3).
        """
        if self.frozen:
            return super().remaining()
        parts = [
            self.groups[name].cost / self.total * gate.log_alive().exp().sum()
            for name, gate in self._gates().items()
        ]
        return self.rest + torch.stack(parts).sum()

    def draw(self, seed: int) -> None:
        """Draw new noise for every gate, a pure function of the seed."""
        generator = torch.Generator(self.frozen.device).manual_seed(seed)
        for gate in self._gates().values():
            gate.draw(generator)

    def refresh(self) -> None:
        """Bring scores that ran away back to their bounds, and note which gates are open without noise."""
        with torch.no_grad():
            for scores in self.scores():
                scores.clamp_(-BOUND, BOUND)
        for gate in self._gates().values():
            gate.kept.copy_(gate.steady() > 0)

    def select(self, budget: float) -> None:
        """Keep the units that are most probably open within `budget`, and multiply their gates into the weights.

        A sub-layer may lose all of its units; one head and one neuron stay in the whole model.
        """
        if self.even:
            self.keep(budget, "global", even=True)
        else:
            self._keep_anywhere(budget)
        for name, gate in self._gates().items():
            fold(self.groups[name], gate.factors())

    def _keep_anywhere(self, budget: float) -> None:
        kinds: dict[str, list[str]] = {}
        for name, group in self.groups.items():
            kinds.setdefault(cast(SlotUnits, group).kind, []).append(name)
        importance = {name: self.learned(name).importance() for name in self.groups}
        rungs = {name: to_rungs(importance[name], group) for name, group in self.groups.items()}
        scores = {kind: torch.cat([rungs[name] for name in names]) for kind, names in kinds.items()}
        prices = {kind: self._prices(names) for kind, names in kinds.items()}
        for kind, kept in keep_within(scores, prices, budget).items():
            sizes = [len(rungs[name]) for name in kinds[kind]]
            for name, mask in zip(kinds[kind], torch.split(kept, sizes), strict=True):
                self.source(name).kept.copy_(from_rungs(importance[name], mask, self.groups[name]))

    def _prices(self, names: list[str]) -> Price:
        """What the rungs of groups of one kind cost, one group after the other."""
        prices = [self.groups[name].price for name in names]
        tables = [price for price in prices if isinstance(price, Tensor)]
        return torch.cat(tables) if tables else prices[0]

    def _gates(self) -> dict[str, NestedMask]:
        return {name: cast(NestedMask, self.source(name)) for name in self.groups}
