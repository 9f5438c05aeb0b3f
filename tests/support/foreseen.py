"""What was foreseen of a job against what its report counted."""

import json
from pathlib import Path

from pruning.data.rows import summarise
from pruning.forecast.forecast import forecast
from pruning.forecast.schemas import Forecast, Sizes, Span
from pruning.granularity import Granularity
from pruning.planning.plan import Plan
from pruning.report import Report, Size


def foresee(report: Report, model: Path, data: Path) -> Forecast:
    """The forecast of a finished job by its plan, with the number of parameters that its files have."""
    config = json.loads((model / "config.json").read_text("utf-8"))
    plan = Plan.model_validate(report.plan)
    return forecast(plan, config, summarise(data, report.spec.columns), report.before.parameters)


def assert_foreseen(report: Report, model: Path, data: Path) -> Forecast:
    """Every number of the report is within what was foreseen; where only one kind of unit goes it is that number."""
    found = foresee(report, model, data)
    _assert_within(found.before, report.before, exact=True)
    if found.after is None:
        left_open = report.spec.target_ratio is None or report.measure == "latency"
        assert (
            left_open
            or report.spec.fills
            or report.spec.cuts_vocabulary
            or "multilevel" in report.spec.granularity
        )
        return found
    kind, native = Granularity.parse(report.spec.granularity).kind, report.spec.allocation == "native"
    exact = native or kind in ("head", "neuron", "unstructured", "block", "n_m")
    _assert_within(found.after, report.after, exact=exact)
    gone = {
        "head": sum(layer.of_heads - layer.heads for layer in report.layers),
        "neuron": sum(layer.of_neurons - layer.neurons for layer in report.layers),
    }
    for group in found.units:
        if group.unit in gone and group.removed is not None:
            assert group.removed.least <= gone[group.unit] <= group.removed.most
            assert group.removed.least == group.removed.most or not exact
    return found


def _assert_within(foreseen: Sizes, counted: Size, *, exact: bool) -> None:
    for name in ("parameters", "weights", "flops", "bytes"):
        span: Span = getattr(foreseen, name)
        value = getattr(counted, name)
        slack = 1e-9 * value
        assert span.least - slack <= value <= span.most + slack, (name, span, value)
        if exact and name != "bytes":
            assert span.most - span.least <= 2 * slack, (name, span, value)
