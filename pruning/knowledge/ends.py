"""What of a model lies below its layers and above them, while the layers are computed elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.draw import Batch
from pruning.model.layers import family
from pruning.training.tasks import Task


class Splice(nn.Module):
    """Stands in the place of an encoder's layers: notes the hidden states that come in, hands out those it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming: Tensor | None = None
        self.outgoing: Tensor | None = None

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """`outgoing` where there is one, else what came in."""
        self.incoming = hidden_states
        return hidden_states if self.outgoing is None else self.outgoing


class Ends:
    """A model without its layers: what happens below the first and above the last, where `task` is answered."""

    def __init__(self, model: PreTrainedModel, task: Task, splice: Splice) -> None:
        self.task = task
        self._model = model
        self._splice = splice

    @classmethod
    @contextmanager
    def of(cls, model: PreTrainedModel, task: Task) -> Iterator["Ends"]:
        """Take the layers out of the model, which is frozen and in evaluation mode; put everything back on leaving."""
        path, _, name = family(model).layers.rpartition(".")
        encoder = model.base_model.get_submodule(path)
        stack, training = getattr(encoder, name), model.training
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        splice = Splice()
        model.eval()
        model.requires_grad_(False)
        setattr(encoder, name, nn.ModuleList([splice]))
        try:
            yield cls(model, task, splice)
        finally:
            setattr(encoder, name, stack)
            model.train(training)
            for parameter in learning:
                parameter.requires_grad_(True)

    def embed(self, batch: Batch) -> Tensor:
        """The input of the first layer, (rows, tokens, hidden)."""
        self._splice.outgoing = None
        self._model(**batch.inputs)
        assert self._splice.incoming is not None  # noqa: S101 - the model ran its one layer
        return self._splice.incoming

    def read(self, hidden: Tensor) -> Tensor:
        """What the task's head reads of (rows, tokens, hidden): all tokens, or the first."""
        return hidden[:, :1].contiguous() if self.task.reads_first_token else hidden

    def logits(self, batch: Batch, read: Tensor) -> Tensor:
        """The model's answers (answers, classes) when its last layer says `read`; of labels only the places count."""
        self._splice.outgoing = read
        return self.task.logits(self._model(**batch.inputs), batch.whole)
