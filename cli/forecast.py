"""A plan as a person reads it."""

from rich.table import Table

from cli.console import out, print_table, said
from client import Duration, Forecast, JobPlan, Span

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def show_plan(plan: JobPlan) -> None:
    """Print units, sizes, memory and time; warnings, and why a target is out of reach, go to standard error."""
    if plan.target.message is not None:
        said.print(f"out of reach: {plan.target.message}", markup=False, highlight=False, soft_wrap=True)
    for notice in plan.warnings:
        said.print(f"warning: {notice.message}", markup=False, highlight=False, soft_wrap=True)
    asked = plan.target.nearest
    how_much = f"at most {plan.max_quality_drop:g} points lost" if asked is None else f"{asked:g} removed"
    _say(f"{plan.method}, {plan.granularity}, {plan.task}: {how_much} of {plan.target_measure}")
    if plan.forecast is None or plan.duration is None:
        _say("The dataset is still on the hub: more is known once a job has fetched it.")
        return
    _show_units(plan.forecast)
    _show_sizes(plan.forecast)
    memory = plan.forecast.memory
    _say(
        f"memory: {short(memory.libraries + memory.job)}B on a CPU, {short(memory.job)}B of a GPU "
        f"(within a factor of {memory.factor:g}; most in {memory.stage})"
    )
    _say(f"time: {_time(plan.duration)}")


def short(number: float) -> str:
    """A number with three digits and the letter of its size."""
    for size, letter in _UNITS:
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "


def _show_units(forecast: Forecast) -> None:
    table = Table("unit", "of", "in a layer", "stay at least", "step", "in all", "will go")
    for group in forecast.units:
        gone = "the job decides" if group.removed is None else _counts(group.removed)
        table.add_row(
            group.unit,
            group.of,
            str(group.per_layer),
            str(group.stay_per_layer),
            str(group.step),
            str(group.layers * group.per_layer),
            gone,
        )
    if forecast.units:
        print_table(table)


def _show_sizes(forecast: Forecast) -> None:
    table = Table("", "before", "after")
    for name in ("parameters", "weights", "flops", "bytes"):
        after = forecast.after and _sizes(getattr(forecast.after, name))
        table.add_row(name, _sizes(getattr(forecast.before, name)), after or "the job decides")
    print_table(table)


def _counts(span: Span) -> str:
    return f"{span.least:g}" if span.least == span.most else f"{span.least:g} to {span.most:g}"


def _sizes(span: Span) -> str:
    least, most = short(span.least).strip(), short(span.most).strip()
    return least if least == most else f"{least} to {most}"


def _time(duration: Duration) -> str:
    if duration.seconds is None:
        return "not known: none of your jobs of this method and size has ended yet"
    if duration.basis == "earlier_jobs":
        return (
            f"about {duration.seconds:.0f} s, by {duration.jobs} of your earlier jobs "
            f"({duration.least:.0f} to {duration.most:.0f} s)"
        )
    return f"about {duration.seconds:.0f} s at an assumed {short(duration.flops_per_second or 0)}FLOP/s"


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
