"""What a forecast says, without any job: against a search over all choices, and against real models' files."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.assets.inspect import model_complete
from pruning.data.rows import DataSummary
from pruning.forecast.forecast import forecast
from pruning.forecast.removal import Removal
from pruning.forecast.schemas import Span
from pruning.forecast.units import Kind
from pruning.model.depth import drop_layers
from pruning.planning.parameters import bounds
from pruning.planning.plan import resolve
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec
from tests.support.models import DECODERS, FAMILIES, save_tiny, tiny_model

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "vocab_size": 100,
    "id2label": {"0": "0", "1": "1"},
}
LARGER = CONFIG | {
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
}
DATA = DataSummary(
    text="text",
    label="label",
    splits={"train": 800, "validation": 100},
    columns={},
    classes=("0", "1"),
    mean_characters=45.0,
    sha256={},
)
SETTINGS = {"max_steps": 100, "batch_size": 8}


def foresee(config: dict[str, Any] = CONFIG, **fields: Any) -> Any:
    spec = PruneSpec(**{"target_ratio": 0.5, "method": "magnitude", "max_length": 64} | fields)
    return forecast(resolve(spec, config, DATA), config, DATA)


def kind(cost: float) -> Kind:
    return Kind("row", "", 0, 1, 1, cost, 0, 0, 0.0, leaves=False)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(0, 9)), min_size=2, max_size=3),
    st.integers(0, 40),
)
def test_bounds_hold_for_every_choice_within_a_unit(kinds: list[tuple[int, int, int]], wanted: int) -> None:
    limits, costs, prices = (list(column) for column in zip(*kinds, strict=True))
    gone = Removal([kind(cost) for cost in costs], limits, Span(least=wanted, most=wanted + max(costs)))
    found = gone.sum(prices)
    for choice in product(*(range(limit + 1) for limit in limits)):
        spent = sum(count * cost for count, cost in zip(choice, costs, strict=True))
        if wanted <= spent <= wanted + max(costs):
            price = sum(count * each for count, each in zip(choice, prices, strict=True))
            assert found.least - 1e-9 <= price <= found.most + 1e-9
            for index, count in enumerate(choice):
                assert gone.units(index).least <= count <= gone.units(index).most


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_the_files_of_a_trained_model_say_its_parameters(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, family)
    files = {path.name: path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".txt")}
    info = model_complete(files)
    assert info.parameters == tiny_model(family).num_parameters()
    least, most = bounds(info.config, ModelShape.from_config(info.config))
    assert least <= info.parameters <= most


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_layers_take_their_norms_along(family: str) -> None:
    model = tiny_model(family, layers=4)
    config, stored = model.config.to_dict(), model.num_parameters()
    spec = PruneSpec(target_ratio=0.5, method="depth", granularity="layer", max_length=64)
    data = DATA if family in FAMILIES else DATA.model_copy(update={"label": None, "classes": ()})
    found = forecast(resolve(spec, config, data), config, data, stored)
    assert found.units[0].removed == Span.exactly(2)
    drop_layers(model, [0, 2])
    assert found.after.parameters.least <= model.num_parameters() <= found.after.parameters.most
    assert found.after.bytes.most == 4 * found.after.parameters.most


@pytest.mark.parametrize(
    ("fields", "units"),
    [
        ({"granularity": "structured"}, [("head", 4, 1, 1), ("neuron", 48, 8, 8)]),
        ({"granularity": "head", "target_ratio": 0.2}, [("head", 4, 1, 1)]),
        ({"granularity": "hybrid:8x8"}, [("block", 64, 4, 1), ("neuron", 48, 8, 8)]),
        ({"granularity": "block:8x4"}, [("block", 224, 6, 1)]),
        ({"granularity": "2:4"}, [("weight", 7168, 6, 1)]),
        ({"granularity": "layer", "method": "depth"}, [("layer", 1, 0, 1)]),
        ({"granularity": "row"}, [("row", 32, 1, 1), ("row", 48, 1, 1), ("row", 32, 1, 1)]),
        (
            {"granularity": "multilevel:8x8", "method": "leap", "settings": SETTINGS, "target_ratio": 0.7},
            [("head", 4, 1, 1), ("neuron", 48, 8, 8), ("block", 112, 6, 1)],
        ),
        (
            {"method": "cofi", "settings": SETTINGS | {"max_steps": 200}},
            [("head", 4, 0, 1), ("neuron", 48, 0, 8)],
        ),
    ],
)
def test_the_units_of_every_granularity(
    fields: dict[str, Any], units: list[tuple[str, int, int, int]]
) -> None:
    found = foresee(**fields)
    assert [(g.unit, g.per_layer, g.stay_per_layer, g.step) for g in found.units] == units


def test_training_needs_more_memory_and_work_than_looking() -> None:
    looked = foresee(LARGER, granularity="unstructured")
    trained = foresee(LARGER, granularity="unstructured", method="movement", settings=SETTINGS)
    assert trained.memory.job > looked.memory.job
    assert (looked.memory.stage, trained.memory.stage) == ("export", "prune")
    assert looked.work.training == 0
    passes = 4  # forward, backward twice as much, and the teacher's
    rows = 100 * 8 + 25 * 32  # of the method, and of an epoch of recovery
    assert trained.work.training == pytest.approx(rows * passes * trained.before.flops.least)
    assert not foresee(method="kprune").work.complete


def test_what_fits_a_model() -> None:
    grid = foresee().grid
    assert grid.block_rows == (1, 2, 4, 8, 16)
    assert grid.group_sizes == (2, 4, 8, 16)
    assert grid.round_to == (1, 2, 4, 8, 16)
