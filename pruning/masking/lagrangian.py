"""An augmented Lagrangian that brings the removed part of a model to a target: multipliers learn against the model."""

import torch
from torch import Tensor, nn

_START = 100.0
_MEMORY = 0.05  # weight of the newest step in the running mean of the squared gradients


class Lagrangian(nn.Module):
    """first * (s - t) + second * (s - t)^2 for the removed part s and its target t (Wang, Wohlwend and Lei 2020).

    The model descends on it and the multipliers ascend: so they grow until the target holds. It is counted in units
    of the task's gradient, measured while training: with a slope of 1 in s its gradient by the scores is, in the
    root mean square, as large as the task's. The published runs leave that to the scale of the loss and start both
    multipliers at 0, which takes some ten thousand steps; `second` starts at 100 here, so that a gap of half a
    percent already weighs as much as the task, and a short run does not shoot past its target.
    """

    target: Tensor
    """0-d: t, which rises with the schedule."""
    energy: Tensor
    """0-d: running mean square of the task's gradients by the scores."""
    unit: Tensor
    """0-d: how large a Lagrangian of 1 is on the scale of the task's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(()))
        self.second = nn.Parameter(torch.tensor(_START))
        for name in ("target", "energy", "unit"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, removed: Tensor) -> Tensor:
        """The penalty, 0-d; `removed` is the part that is expected to be removed, 0-d, with gradients.

        What the multipliers see is not scaled by the unit: their gradient is the gap alone, and its square.
        """
        gap = removed - self.target
        slope = self.first + 2 * self.second * gap
        push = slope.detach() * removed
        rise = self.first * gap.detach() + self.second * gap.detach().square()
        return self.unit * (push - push.detach()) + rise

    def observe(self, removed: Tensor, scores: list[nn.Parameter]) -> None:
        """Measure the task's gradients by the scores: what they have beside that of the penalty.

        To be called when gradients are there and before they are used.
        """
        with torch.enable_grad():
            ours = torch.cat([part.reshape(-1) for part in torch.autograd.grad(removed, scores)])
        found = torch.cat([score.grad.reshape(-1) for score in scores if score.grad is not None])
        slope = self.first + 2 * self.second * (removed - self.target)
        task = (found - self.unit * slope.detach() * ours).square().mean().detach()
        task = torch.where(task.isfinite(), task, self.energy)  # fp16 tries scales that are too large
        self.energy.copy_(torch.where(self.energy > 0, self.energy.lerp(task, _MEMORY), task))
        self.unit.copy_((self.energy / ours.square().mean()).sqrt())
