"""Keeps docs/openapi.json, which a test compares with the routes.

`python -m app.publish_openapi --write` writes the file; without the option it is checked.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from app.main import create_app
from core.settings import Settings

PATH = Path(__file__).parents[1] / "docs" / "openapi.json"


def generate() -> str:
    """The text of docs/openapi.json."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Check docs/openapi.json against the routes, or write it; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(
        prog="python -m app.publish_openapi", description="Check docs/openapi.json."
    )
    parser.add_argument("--write", action="store_true", help="write the file instead of checking it")
    text = generate()
    if parser.parse_args(arguments).write:
        PATH.write_text(text, "utf-8")
        return 0
    if PATH.read_text("utf-8") == text:
        return 0
    sys.stderr.write("docs/openapi.json is stale: run python -m app.publish_openapi --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
