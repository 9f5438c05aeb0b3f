"""Distillation: the pruned student learns from the dense teacher's answers (Hinton, Vinyals, Dean 2015)."""

import torch.nn.functional as F
from torch import Tensor

from pruning.spec import Distill


def distillation_loss(student: Tensor, teacher: Tensor, task_loss: Tensor, settings: Distill) -> Tensor:
    """Mix the task's loss (0-d) with what the teacher says: 0-d, fp32. Logits are (rows, outputs).

    Classes: weight * T^2 * KL(teacher || student), mean over rows, with both distributions softened by the
    temperature T; T^2 keeps the size of the gradient. One output (regression): weight * mean squared
    difference of the two answers. The rest of the weight goes to the task's loss.
    """
    student, teacher = student.float(), teacher.detach().float()
    if student.shape[-1] == 1:
        imitation = F.mse_loss(student, teacher)
    else:
        soft_student = F.log_softmax(student / settings.temperature, dim=-1)
        soft_teacher = F.log_softmax(teacher / settings.temperature, dim=-1)
        divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
        imitation = settings.temperature**2 * divergence
    return settings.weight * imitation + (1 - settings.weight) * task_loss
