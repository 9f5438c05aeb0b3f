"""Measured once, cut many times: a search makes the cuts that jobs of their own would make, and measures once."""

import json

import pytest

from pruning import prune
from pruning.knowledge.stream import Stream
from pruning.layerwise.stream import Stream as LayerStream
from pruning.report import Candidate
from pruning.spec import Evaluation, PruneSpec
from pruning.steps.search import _frontier
from tests.support.data import write_dataset
from tests.support.models import save_tiny

CANDIDATES = 3
OWL = {"calibration_tokens": 200, "layer_ratios": "owl"}
METHODS = {
    "fisher": ({"granularity": "structured"}, {"calibration_rows": 16}, 1),
    "kcm": ({"granularity": "neuron"}, {"calibration_rows": 16}, 1),
    "kprune": ({"granularity": "structured"}, {"calibration_tokens": 200, "selection": "once"}, 1),
    "wanda": ({"granularity": "unstructured"}, OWL, 2 + 2 * CANDIDATES),
}
"""Request, settings, and how often rows are measured in a search: OWL's look at both layers happens once."""


def request(**changes):
    fields = {"max_length": 32, "evaluate": Evaluation(latency=False), "device": "cpu"}
    return PruneSpec(**fields | changes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return save_tiny(folder / "model"), write_dataset(folder / "data", train=40, validation=16)


def counting(real, found):
    def counted(*arguments, **options):
        found.append(real)
        return real(*arguments, **options)

    return counted


@pytest.fixture
def measurements(monkeypatch):
    """Names every measurement of rows that is made."""
    found = []
    for stream, name in ((Stream, "measure"), (LayerStream, "collect")):
        monkeypatch.setattr(stream, name, counting(getattr(stream, name), found))
    return found


class Killed(Exception):
    pass


def cut(spec, inputs, out, step="pruned"):
    """Run a job up to a step, by default until its model is cut; returns the bytes and the result of the cut."""

    def kill(event):
        if event.type == "phase" and event.data["step"] == step:
            raise Killed

    with pytest.raises(Killed):
        prune(spec, *inputs, out, kill)
    (work,) = (out / "work").iterdir()
    made = work / "prune"
    return (made / "model" / "model.safetensors").read_bytes() if step == "pruned" else b"", work


@pytest.mark.parametrize(
    "method", ["fisher", "wanda", *(pytest.param(name, marks=pytest.mark.slow) for name in ("kcm", "kprune"))]
)
def test_a_search_measures_once_and_cuts_as_a_job_of_its_own_does(method, inputs, tmp_path, measurements):
    asked, settings, times = METHODS[method]
    spec = request(
        max_quality_drop=100, quality_candidates=CANDIDATES, method=method, settings=settings, **asked
    )
    cut(spec, inputs, tmp_path / "search", "judged-1")
    found, work = cut(spec, inputs, tmp_path / "search")
    assert len(measurements) == times
    assert not list(work.glob("measured.work"))
    tried = [json.loads(path.read_text())["ratio"] for path in work.glob("candidate-*/result.json")]
    fresh = request(target_ratio=max(tried), method=method, settings=settings, **asked)
    assert cut(fresh, inputs, tmp_path / "alone")[0] == found


@pytest.mark.slow
def test_kprune_each_reuses_what_it_measures_of_the_dense_model(inputs, tmp_path, measurements):
    """Two lambdas for each of three cuts: of four sub-layers only the lowest is measured on the dense model."""
    spec = request(
        max_quality_drop=100, quality_candidates=3, method="kprune", settings={"calibration_tokens": 200}
    )
    cut(spec, inputs, tmp_path)
    assert len(measurements) == 1 + 3 * 2 * 3


def test_the_frontier_has_what_nothing_larger_matches():
    def candidate(ratio, quality):
        return Candidate(ratio=ratio, quality=quality, drop=0.0, weights=0, within=True)

    tried = [candidate(0.5, 0.8), candidate(0.25, 0.7), candidate(0.75, 0.6), candidate(0.6, 0.6)]
    assert [each.ratio for each in _frontier(tried)] == [0.5, 0.75]
