"""One hostile upload: the files of a model or dataset of which one is not what it should be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.support.uploads import dataset_files, model_files

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Case:
    """What is uploaded (made only when it is needed), and the name that the refusal must say."""

    id: str
    collection: str
    make: Callable[[], dict[str, bytes]]
    says: str

    def __str__(self) -> str:
        return self.id


def of_model(name: str, makers: Mapping[str, Make]) -> Iterator[Case]:
    """Models that are whole but for the file `name`."""
    for what, make in makers.items():
        yield Case(f"{name}: {what}", "models", lambda make=make: model_files() | {name: make()}, name)


def of_dataset(name: str, makers: Mapping[str, Make]) -> Iterator[Case]:
    """Datasets of one split, in the file `name`; a validation file has a training file beside it."""
    for what, make in makers.items():
        beside = {} if name.startswith("train.") else dataset_files()
        yield Case(f"{name}: {what}", "datasets", lambda make=make, b=beside: b | {name: make()}, name)
