"""Whole jobs that aim at something else than weights or FLOPs: parameters, a latency, a drop of quality."""

import json

import pytest
from transformers import AutoModelForSequenceClassification

from pruning import prune
from pruning.errors import InvalidData, TargetUnreachable
from pruning.options import Finetune
from pruning.report import Report
from pruning.spec import Evaluation, PruneSpec
from pruning.steps import search
from pruning.steps.stages import judge
from tests.support.data import write_dataset
from tests.support.foreseen import assert_foreseen
from tests.support.models import save_tiny, save_untrained
from tests.support.workclock import WorkClock


def request(**changes):
    fields = {
        "method": "magnitude",
        "max_length": 32,
        "evaluate": Evaluation(sequence_length=16, rounds=3, batch_sizes=(2,), latency=False),
        "device": "cpu",
    }
    return PruneSpec(**fields | changes)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return save_tiny(folder / "model"), write_dataset(folder / "data", train=40, validation=16)


class Killed(Exception):
    pass


def kill_at(step):
    def events(event):
        if event.type == "phase" and event.data["step"] == step:
            raise Killed

    return events


class TestParameters:
    def test_the_export_lacks_what_was_asked(self, inputs, tmp_path):
        report = prune(request(target_ratio=0.1, target_measure="parameters"), *inputs, tmp_path)
        dense = AutoModelForSequenceClassification.from_pretrained(inputs[0]).num_parameters()
        assert_foreseen(report, *inputs)
        left = report.load_check.parameters["remote_code"]  # as a stranger counts them
        assert report.delivered["parameters"] == pytest.approx(1 - left / dense, abs=1e-12)
        head = 4 * 32 * 8 + 3 * 8
        assert 0.1 <= report.delivered["parameters"] < 0.1 + head / dense
        assert "of all parameters removed" in (tmp_path / "README.md").read_text()

    def test_more_than_the_layers_hold_is_refused_by_the_job(self, inputs, tmp_path):
        with pytest.raises(TargetUnreachable) as caught:
            prune(request(target_ratio=0.9, target_measure="parameters"), *inputs, tmp_path)
        assert 0 < caught.value.nearest < 0.9


class TestLatency:
    @pytest.mark.parametrize("method", ["magnitude", "kprune"])
    def test_the_result_is_as_fast_as_asked_and_predicted(self, inputs, tmp_path, method):
        spec = request(target_ratio=0.3, target_measure="latency", method=method)
        with WorkClock().running():
            report = prune(spec, *inputs, tmp_path)
        found = report.latency_target
        assert not report.target_missed
        assert report.asked == found.asked == 0.3
        assert found.predicted == pytest.approx(found.measured, abs=1e-6)
        assert 0.3 <= found.measured < 0.3 + 0.1
        assert report.delivered["latency"] == found.measured
        assert [(entry.batch_size, entry.sequence_length) for entry in report.latency] == [(2, 16)]
        assert [point.count for point in found.table.neurons] == (
            [0, 8, 24, 32] if method == "kprune" else [8, 24, 32]
        )
        assert Report.model_validate_json((tmp_path / "report.json").read_text()) == report
        assert "30.0% of the latency removed" in (tmp_path / "README.md").read_text()

    def test_the_table_is_not_measured_again(self, inputs, tmp_path):
        spec = request(target_ratio=0.3, target_measure="latency")
        with WorkClock().running(), pytest.raises(Killed):
            prune(spec, *inputs, tmp_path, kill_at("prune"))
        seen = []
        clock = WorkClock()
        clock.overhead = 10.0  # on which nothing could be faster
        with clock.running():
            report = prune(spec, *inputs, tmp_path, seen.append)
        assert "table" not in [event.data["step"] for event in seen if event.type == "phase"]
        assert report.target_missed
        assert report.latency_target.measured < 0.05 < 0.3 <= report.latency_target.predicted
        assert "The target was missed" in (tmp_path / "README.md").read_text()

    def test_a_latency_that_no_cut_reaches_is_refused_with_the_nearest(self, inputs, tmp_path):
        with WorkClock().running(), pytest.raises(TargetUnreachable) as caught:
            prune(request(target_ratio=0.95, target_measure="latency"), *inputs, tmp_path)
        assert 0.3 < caught.value.nearest < 0.95


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that has learnt its task, and rows to choose by: (model, dataset)."""
    folder = tmp_path_factory.mktemp("trained")
    rows = write_dataset(folder / "data", train=64, validation=64)
    spec = request(target_ratio=0, method="auto", finetune=Finetune(epochs=15, learning_rate=3e-3))
    prune(spec, save_untrained(folder / "encoder"), rows, folder / "out")
    return folder / "out" / "model", rows


DROP = request(max_quality_drop=4.0, quality_candidates=5)


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    """A search that ran through: (folder, report)."""
    out = tmp_path_factory.mktemp("found")
    return out, prune(DROP, *trained, out)


class TestQualityDrop:
    def test_the_largest_cut_within_the_limit(self, found):
        out, report = found
        how = report.search
        assert how.dense > 0.8
        assert (how.split, how.rows, report.quality.rows) == ("validation", 32, 32)
        assert len(how.candidates) == 5
        for each in how.candidates:
            assert each.drop == pytest.approx(100 * (how.dense - each.quality))
            assert each.within == (each.drop <= 4.0 + 1e-9)
        chosen = next(each for each in how.candidates if each.ratio == how.chosen)
        assert chosen.within
        above = [each for each in how.candidates if each.ratio > how.chosen]
        assert above
        assert not any(each.within for each in above)
        assert min(each.ratio for each in above) - how.chosen == pytest.approx(how.reach / 2**5)
        assert report.asked == how.chosen <= report.delivered["flops"]
        assert report.after.weights == chosen.weights
        assert "at most 4 points" in (out / "README.md").read_text()

    def test_killed_in_the_search_it_finds_the_same(self, found, trained, tmp_path):
        for step in ("cut-1", "judged-2", "cut-4", "pruned"):
            with pytest.raises(Killed):
                prune(DROP, *trained, tmp_path, kill_at(step))
        seen = []
        report = prune(DROP, *trained, tmp_path, seen.append)
        assert report.search == found[1].search
        assert report.hashes == found[1].hashes
        steps = [event.data["step"] for event in seen if event.type == "phase"]
        assert not any(step.startswith(("cut", "judged")) for step in steps)

    def test_only_the_best_cut_is_kept(self, found):
        (work,) = (found[0] / "work").iterdir()
        assert not list(work.glob("cut-*"))
        assert json.loads((work / "prune" / "result.json").read_text())["kept"]

    def test_where_every_cut_is_good_enough_it_goes_on_towards_the_reach(self, inputs, tmp_path):
        with pytest.raises(Killed):
            prune(request(max_quality_drop=100, quality_candidates=3), *inputs, tmp_path, kill_at("pruned"))
        (work,) = (tmp_path / "work").iterdir()
        tried = [json.loads((work / f"candidate-{index}" / "result.json").read_text()) for index in range(3)]
        ratios = [each["ratio"] for each in tried]
        assert [ratio / ratios[0] for ratio in ratios] == pytest.approx([1, 3 / 2, 7 / 4])
        assert all(each["within"] for each in tried)

    def test_a_limit_that_no_cut_keeps_is_refused(self, inputs, tmp_path, monkeypatch):
        def spoilt(job, name, load, rows=None):
            found = judge(job, name, load, rows)
            return found | {"metrics": {"accuracy": 0.9 if name == "dense" else 0.8}}

        monkeypatch.setattr(search, "judge", spoilt)
        with pytest.raises(TargetUnreachable, match="at most 4 points") as caught:
            prune(request(max_quality_drop=4.0, quality_candidates=3), *inputs, tmp_path)
        assert caught.value.param == "/max_quality_drop"
        assert "larger drop" in caught.value.remedy

    def test_too_few_rows_to_choose_by_are_refused(self, inputs, tmp_path):
        rows = write_dataset(tmp_path / "data", train=40, validation=6)
        with pytest.raises(InvalidData, match="half of them") as caught:
            prune(DROP, inputs[0], rows, tmp_path / "out")
        assert caught.value.param == "/dataset"
