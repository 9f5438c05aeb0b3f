"""The program that `load_check` runs in a fresh process: load a directory like a stranger, note its logits.

Run by path with `python -I`, never imported. It blocks our own packages before anything else is imported, so
that an artifact that needs them fails.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(request: Path, answer: Path) -> None:
    """Read {folder, auto_class, inputs, loads}; write logits, parameters and complaints by way of loading."""
    for name in ("app", "cli", "client", "core", "pruning", "worker"):
        sys.modules[name] = None  # type: ignore[assignment]  # documented: makes it not importable
    asked = json.loads(request.read_text("utf-8"))
    answer.write_text(json.dumps({load: _load(asked, load) for load in asked["loads"]}), "utf-8")


def _load(asked: dict[str, Any], load: str) -> dict[str, Any]:
    import torch
    import transformers

    transformers.AutoTokenizer.from_pretrained(asked["folder"], trust_remote_code=False)
    model, report = getattr(transformers, asked["auto_class"]).from_pretrained(
        asked["folder"],
        trust_remote_code=load == "remote_code",
        use_safetensors=True,
        output_loading_info=True,
    )
    inputs = {name: torch.tensor(rows) for name, rows in asked["inputs"].items()}
    with torch.inference_mode():
        outputs = model.eval()(**inputs)
    logits = torch.cat(
        [found.flatten(1) for name, found in outputs.items() if name.endswith("logits")], dim=1
    )
    return {
        "logits": logits.float().tolist(),
        "parameters": model.num_parameters(),
        "complaints": {name: sorted(map(str, keys)) for name, keys in report.items() if keys},
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
