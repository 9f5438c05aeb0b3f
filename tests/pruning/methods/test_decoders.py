"""Methods on decoders: the asked ratio within one unit, and the same answers gated, zeroed, shrunk and exported."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from pruning.delivery.count import Count, count
from pruning.delivery.export import export
from pruning.granularity import Granularity
from pruning.masking.hybrid import shrink_masks
from pruning.methods import METHODS, Outcome
from pruning.model.layers import prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import neuron_cost, total_cost, unit_costs
from pruning.planning.plan import Plan
from pruning.spec import Allocation
from tests.support.learning import LEARNED, Run
from tests.support.models import DECODERS, tiny_inputs, tiny_tokenizer
from tests.support.training import Classroom, reading_room

GRANULARITIES = ("unstructured", "block:4x4", "row", "neuron", "head", "structured", "hybrid:4x4")
FREE = ("llama", "mistral", "qwen2", "qwen3", "gemma")
ABLE = [
    (name, granularity)
    for name in LEARNED
    for granularity in ("unstructured", "structured")
    if granularity in METHODS[name].granularities and not METHODS[name].empties_sublayers
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classroom]:
    return {family: reading_room(tmp_path_factory.mktemp(family), family=family) for family in DECODERS}


def _left(model: PreTrainedModel) -> int:
    return sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())


def _deliver(run: Run, outcome: Outcome, folder: Path) -> Count:
    """Shrink, export and count; what is delivered answers as the zeroed model does."""
    inputs, masks = tiny_inputs(run.model), outcome.weight_masks
    with torch.no_grad():
        expected = run.model(**inputs).logits
        if outcome.kept is not None:
            shrink(run.model, outcome.kept)
            masks = masks and shrink_masks(run.model, masks, outcome.kept)
        torch.testing.assert_close(run.model(**inputs).logits, expected, rtol=0, atol=1e-5)
    family = run.model.config.model_type
    export(run.model, tiny_tokenizer(family), run.shape, outcome.kept, run.spec.allocation, folder)
    plan = Plan.model_construct(
        spec=run.spec,
        task="causal-lm",
        target_measure=run.spec.target_measure,
        shape=run.shape,
        length=run.context().mean_length,
        neuron_step=run.spec.round_to or 1,
    )
    # Raises when the ratio, the zeros or the sizes are not those.
    return count(folder, plan, outcome.kept, masks, run.spec.ratio)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("family", DECODERS)
def test_magnitude_delivers_the_ratio(
    rooms: dict[str, Classroom], tmp_path: Path, family: str, granularity: str
) -> None:
    ratio = 0.2
    run = Run(
        "magnitude",
        rooms[family],
        tmp_path,
        granularity=granularity,
        target_ratio=ratio,
        target_measure="weights",
    )
    outcome = run.prune_once()
    dense = total_cost(run.shape, "weights", 1.0)
    unit = max(unit_costs(run.shape, Granularity.parse(granularity), "weights", 1.0))
    assert ratio * dense - 1e-6 <= dense - _left(run.model) < ratio * dense + unit
    for name, mask in (outcome.weight_masks or {}).items():
        assert torch.equal(run.model.get_parameter(name) != 0, mask)
    _deliver(run, outcome, tmp_path / "model")


@pytest.mark.parametrize(
    ("granularity", "allocation"),
    [("structured", "global"), ("structured", "native"), ("row", "global"), ("hybrid:4x4", "global")],
)
@pytest.mark.parametrize("family", DECODERS)
def test_magnitude_removes_the_part_of_all_parameters(
    rooms: dict[str, Classroom], tmp_path: Path, family: str, granularity: str, allocation: Allocation
) -> None:
    request = {"granularity": granularity, "allocation": allocation, "target_measure": "parameters"}
    run = Run("magnitude", rooms[family], tmp_path, target_ratio=0.1, **request)
    stored = run.model.num_parameters()
    run.shape = replace(run.shape, parameters=stored)
    outcome = run.prune_once()
    found = _deliver(run, outcome, tmp_path / "model")
    zeros = sum(int((~mask).sum()) for mask in (outcome.weight_masks or {}).values())
    if outcome.kept is None:
        assert found.removed["parameters"] == pytest.approx(zeros / stored, abs=1e-12)
    elif not outcome.weight_masks:
        left = run.model.num_parameters()  # shrunk, as it was delivered
        assert found.removed["parameters"] == pytest.approx(1 - left / stored, abs=1e-12)
    assert found.removed["parameters"] >= 0.1 - 1e-9


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_layers_of_one_size_have_a_round_number_of_neurons(
    rooms: dict[str, Classroom], tmp_path: Path, method: str
) -> None:
    request = {"allocation": "native", "target_ratio": 0.4, "target_measure": "weights", "round_to": 4}
    run = Run(method, rooms["llama"], tmp_path, **request)
    outcome = run.prune_once()
    assert outcome.kept is not None
    assert len({(len(neurons), len(neurons) % 4) for neurons in outcome.kept.neurons}) == 1
    assert {len(neurons) % 4 for neurons in outcome.kept.neurons} == {0}
    assert run.shape.heads % len(outcome.kept.heads[0]) == 0
    _deliver(run, outcome, tmp_path / "model")


@pytest.mark.parametrize("family", FREE)
@pytest.mark.parametrize(("ratio", "heads"), [(0.1, 4), (0.6, 2)])
def test_layers_of_one_size_are_exact_to_a_neuron(
    rooms: dict[str, Classroom], tmp_path: Path, family: str, ratio: float, heads: int
) -> None:
    request = {"allocation": "native", "target_ratio": ratio, "target_measure": "weights"}
    run = Run("magnitude", rooms[family], tmp_path, **request)
    outcome = run.prune_once()
    assert outcome.kept is not None
    sizes = {
        (len(left), len(neurons))
        for left, neurons in zip(outcome.kept.heads, outcome.kept.neurons, strict=True)
    }
    assert sizes == {(heads, next(iter(sizes))[1])}
    dense = total_cost(run.shape, "weights", 1.0)
    unit = run.shape.layers * neuron_cost(run.shape, "weights", 1.0)
    assert 0 <= dense - _left(run.model) - ratio * dense < unit
    _deliver(run, outcome, tmp_path / "model")
    assert not (tmp_path / "model" / "modeling_pruned.py").exists()


@pytest.mark.parametrize(("name", "granularity"), ABLE)
def test_methods_that_train_do_so_on_text(
    rooms: dict[str, Classroom], tmp_path: Path, name: str, granularity: str
) -> None:
    family = "gpt2" if granularity == "unstructured" else "llama"
    run = Run(
        name,
        rooms[family],
        tmp_path / "run",
        granularity=granularity,
        target_ratio=0.5,
        target_measure="weights",
    )
    _deliver(run, run.prune(), tmp_path / "model")


@pytest.mark.parametrize("name", sorted({name for name, _ in ABLE}))
def test_methods_that_train_make_layers_of_one_size(
    rooms: dict[str, Classroom], tmp_path: Path, name: str
) -> None:
    request = {"allocation": "native", "target_ratio": 0.6, "target_measure": "weights"}
    run = Run(name, rooms["qwen2"], tmp_path / "run", **request)
    outcome = run.prune()
    _deliver(run, outcome, tmp_path / "model")
    assert outcome.kept is not None
    assert len({len(heads) for heads in outcome.kept.heads}) == 1
    assert not (tmp_path / "model" / "modeling_pruned.py").exists()


@pytest.mark.parametrize("allocation", ["global", "native"])
@pytest.mark.parametrize("family", DECODERS)
def test_flap_delivers_the_ratio(
    rooms: dict[str, Classroom], tmp_path: Path, family: str, allocation: Allocation
) -> None:
    ratio = 0.6 if family in FREE else 0.3  # beyond that heads must go, which not every config can say
    request = {"target_ratio": ratio, "target_measure": "weights", "allocation": allocation}
    run = Run("flap", rooms[family], tmp_path / "run", **request)
    outcome = run.prune_once(calibration_tokens=200)
    dense = total_cost(run.shape, "weights", 1.0)
    assert _left(run.model) <= (1 - ratio) * dense + 1e-6
    _deliver(run, outcome, tmp_path / "model")
    padded = (tmp_path / "model" / "modeling_pruned.py").exists()
    assert padded == (allocation == "global")
