"""The model card: what was done to a model, what it brought, and how to load it. Imports no torch."""

from collections.abc import Iterable

from pruning.planning.families import AUTO_CLASSES
from pruning.report import Quality, Report

_KINDS = {
    "shrunk": "{removed} were **removed**: the model is smaller and computes less.",
    "mixed": (
        "{removed} were **removed**: the model is smaller and computes less. In what is left, blocks "
        "of weights were **set to zero in matrices of the same size**: these zeros make the file no smaller unless it "
        "is compressed, and nothing faster unless the runtime makes use of them."
    ),
    "zeros": (
        "Weights were **set to zero in matrices of the same size**: the file is as large as before unless it "
        "is compressed, and nothing runs faster unless the runtime makes use of zeros."
    ),
    "dense": "The model was **fine-tuned; nothing was removed**.",
}


_PIPELINES = {
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "causal-lm": "text-generation",
}


def card(report: Report) -> str:
    """The text of README.md for a finished job: Markdown, with the metadata that model hubs read on top."""
    sections = (
        _metadata(report.plan["task"]),
        f"# {_title(report)}",
        _KINDS[report.kind].format(removed=_removed(report)),
        _target(report),
        _table(("", "before", "after"), _rows(report)),
        _windows(report),
        _latency(report),
        _kernels(report),
        *(f"> {warning.message}" for warning in report.warnings),
        "## Load it",
        _loading(report),
        _onnx(report),
        "## Reproduce it",
        _reproduction(report),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(task: str) -> str:
    pipeline = _PIPELINES.get(task, "text-classification")
    return f"---\nlibrary_name: transformers\npipeline_tag: {pipeline}\ntags:\n- prunery\n---"


def _removed(report: Report) -> str:
    """What the model, or at least one of its layers, lost."""
    layers, vocabulary = report.layers, report.vocabulary
    if vocabulary is not None:
        return (
            f"{vocabulary.of_tokens - vocabulary.tokens:,} of {vocabulary.of_tokens:,} tokens, which no text of the "
            "dataset has, and their embeddings"
        )
    if any(not (layer.heads or layer.neurons) for layer in layers) and all(
        layer.weights in (0, 1) for layer in layers
    ):
        gone = sum(not layer.weights for layer in layers)
        return f"{gone} of {len(layers)} layers"
    heads = any(layer.heads < layer.of_heads for layer in layers)
    neurons = any(layer.neurons < layer.of_neurons for layer in layers)
    if heads and neurons:
        return "Attention heads and FFN neurons"
    return "Attention heads" if heads else "FFN neurons"


def _title(report: Report) -> str:
    kind = "decoder" if report.plan["task"] == "causal-lm" else "encoder"
    if report.kind == "dense":
        return f"Fine-tuned {kind}"
    removed = f"{report.delivered[report.measure]:.1%} of {_MEASURES[report.measure]}"
    if report.vocabulary is not None:
        return f"{kind.capitalize()} with the vocabulary of its dataset: {removed} removed"
    return f"{kind.capitalize()} pruned with {report.method}: {removed} removed"


_MEASURES = {
    "weights": "the layers' weights",
    "flops": "the layers' FLOPs",
    "parameters": "all parameters",
    "latency": "the latency",
}


def _target(report: Report) -> str:
    """What was asked for, and what of it was delivered."""
    if report.kind == "dense":
        return ""
    if report.vocabulary is not None:
        return (
            f"All {report.vocabulary.texts:,} texts of the dataset become the same tokens as before, under new ids, "
            "and get the same answers. Other texts are split into smaller tokens where theirs are gone."
        )
    what, delivered = _MEASURES[report.measure], report.delivered[report.measure]
    search = report.search
    if search is not None:
        best = next(each for each in search.candidates if each.ratio == search.chosen)
        return (
            f"Asked: as small as possible with at most {search.max_drop:g} points of {search.primary} lost. "
            f"Found among {len(search.candidates)} cuts: {delivered:.1%} of {what} removed, {best.drop:.2f} points "
            f"lost on {search.rows} {search.split} rows that no number below is measured on."
        )
    asked = f"Asked: {report.asked:.1%} of {what} removed. Delivered: {delivered:.1%}."
    timed = report.latency_target
    if timed is None:
        return asked
    table = timed.table
    told = (
        f" ({table.batch_size} x {table.sequence_length}: {timed.dense_ms:.1f} ms dense, {timed.measured_ms:.1f} ms "
        f"measured; {timed.predicted:.1%} was predicted)"
    )
    missed = " **The target was missed.**" if timed.missed else ""
    return f"{asked}{told}{missed}"


def _table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(heading)]
    lines.append(["---"] * len(lines[0]))
    lines += [list(row) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(report: Report) -> list[tuple[str, str, str]]:
    before, after = report.before, report.after
    return [
        *_quality(report.quality),
        ("parameters", f"{before.parameters:,}", f"{after.parameters:,}"),
        ("non-zero weights of the layers", f"{before.weights:,}", f"{after.weights:,}"),
        (
            f"GFLOPs of the layers, {report.mean_length:.1f} tokens",
            f"{before.flops / 1e9:.4g}",
            f"{after.flops / 1e9:.4g}",
        ),
        ("bytes of the weights", f"{before.bytes:,}", f"{after.bytes:,}"),
    ]


def _quality(quality: Quality) -> list[tuple[str, str, str]]:
    names = [quality.primary, *(name for name in sorted(quality.after) if name != quality.primary)]
    note = ", untrained head" if quality.untrained else ""
    better = ", lower is better" if quality.lower_is_better else ""
    return [
        (
            f"{name}{better} ({quality.split}, {quality.rows} rows)",
            f"{quality.before[name]:.4f}{note}",
            f"{quality.after[name]:.4f}",
        )
        for name in names
    ]


def _windows(report: Report) -> str:
    """What a perplexity means."""
    if report.plan["task"] != "causal-lm":
        return ""
    length, shared = report.spec.max_length, report.spec.doc_stride or 0
    known = f"behind {shared} tokens of the window before" if shared else "with nothing before it"
    return f"Perplexity is that of windows of {length} tokens (rows), each {known}, every token scored once."


def _latency(report: Report) -> str:
    if not report.latency:
        return ""
    rows = [
        (
            f"{one.batch_size} x {one.sequence_length}",
            f"{one.dense_ms:.1f} ms",
            f"{one.pruned_ms:.1f} ms",
            f"{one.speedup:.2f}x",
            f"{one.cpu_speedup:.2f}x",
        )
        for one in report.latency
    ]
    first = report.latency[0]
    said = (
        f"Measured on {report.device} with {first.threads} thread(s), dense and pruned in turns, "
        f"medians of {first.rounds} rounds."
    )
    heading = ("rows x tokens", "dense", "pruned", "speed-up", "by processor time")
    return f"{said}\n\n{_table(heading, rows)}"


def _kernels(report: Report) -> str:
    """What a runtime that uses the zeros may expect."""
    found = report.kernels
    if found is None:
        return ""
    times = ", ".join(
        f"{one.speedup:.2f}x at {one.batch_size} x {one.sequence_length}" for one in found.latency
    )
    return (
        f"On the 2:4 kernels of {report.device}, in half precision and with {found.linears} of {found.of_linears} "
        f"matrices on them, its speed was {times} of the dense model's. A plain load does not use these kernels."
    )


def _loading(report: Report) -> str:
    auto_class = AUTO_CLASSES[report.plan["task"]]
    code = (
        "```python\n"
        f"from transformers import {auto_class}, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("model")\n'
        f'model = {auto_class}.from_pretrained("model")\n'
        "```"
    )
    difference = max(report.load_check.differences.values())
    checked = (
        f"Checked in a fresh process without Prunery: the largest difference of a logit is {difference:.2g} "
        f"(allowed {report.load_check.tolerance:.2g})."
    )
    parameters = report.load_check.parameters
    if "remote_code" not in parameters:
        return f"{code}\n\n{checked}"
    both = (
        f"This gives the pruned model's answers with {parameters['plain']:,} parameters: layers are padded "
        "with zeros to one size. Add `trust_remote_code=True` for its full speed with "
        f"{parameters['remote_code']:,} parameters: then `modeling_pruned.py`, which lies beside the "
        "weights, cuts the zeros off after loading."
    )
    return f"{code}\n\n{both}\n\n{checked}"


def _onnx(report: Report) -> str:
    """What the ONNX file is, and how fast."""
    made = report.onnx
    if made is None:
        return ""
    said = (
        f"`onnx/model.onnx` (opset {made.opset}, {made.bytes:,} bytes) is the same model without padding, for any "
        f"number of rows and tokens: it reads {', '.join(made.inputs)} and says {', '.join(made.outputs)}. Checked "
        f"against torch on {len(made.differences)} batches: the largest difference of a logit is "
        f"{max(made.differences.values()):.2g}."
    )
    if not made.latency:
        return said
    rows = [
        (
            f"{one.batch_size} x {one.sequence_length}",
            f"{one.torch_ms:.1f} ms",
            f"{one.onnx_ms:.1f} ms",
            f"{one.speedup:.2f}x",
        )
        for one in made.latency
    ]
    return f"{said}\n\n{_table(('rows x tokens', 'torch', 'onnxruntime', 'speed-up'), rows)}"


def _reproduction(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items()))
    hashes = _table(
        ("file", "sha256"), sorted((f"`{name}`", f"`{digest}`") for name, digest in report.hashes.items())
    )
    request = report.spec.model_dump_json(indent=2)
    return (
        f"Seed {report.seed} on {report.device} with {versions}. The same request, model and dataset give "
        f"the same weights on the same type of machine.\n\n```json\n{request}\n```\n\n{hashes}"
    )
