"""What a model must answer, one file for each kind: encoding, loss, which logits count, and quality."""

from pruning.training.tasks.base import Task
from pruning.training.tasks.encoded import IGNORED, Batch, Encoded
from pruning.training.tasks.language import CausalLM
from pruning.training.tasks.loading import count_parameters, load_config, load_model, load_tokenizer
from pruning.training.tasks.questions import QuestionAnswering
from pruning.training.tasks.text import Classification, Regression
from pruning.training.tasks.tokens import TokenClassification

__all__ = [
    "IGNORED",
    "Batch",
    "CausalLM",
    "Classification",
    "Encoded",
    "QuestionAnswering",
    "Regression",
    "Task",
    "TokenClassification",
    "count_parameters",
    "load_config",
    "load_model",
    "load_tokenizer",
]
