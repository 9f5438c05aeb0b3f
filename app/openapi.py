"""The OpenAPI document: made from the routes, kept in docs/openapi.json, and compared with it by a test.

`python -m app.openapi --write` writes the file; without the option it is checked.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.http.problem import ProblemDocument

PATH = Path(__file__).parents[1] / "docs" / "openapi.json"
_TAGS = {
    "models": "Transformer models, uploaded file by file or named on the hub.",
    "datasets": "Labelled text, uploaded file by file or named on the hub.",
    "jobs": "One request to prune a model, from the queue to its end.",
    "events": "What happens to a job while it runs.",
    "artifacts": "The files of a result.",
    "methods": "How models can be pruned.",
    "health": "The service itself.",
}


def describe(app: FastAPI) -> None:
    """Let `app` publish the document that `document` makes."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, with the problem documents that every route may answer."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        license_info=app.license_info,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    template = "#/components/schemas/{model}"
    problem = ProblemDocument.model_json_schema(mode="serialization", ref_template=template)
    schemas = made["components"]["schemas"]
    schemas |= problem.pop("$defs")
    schemas["ProblemDocument"] = problem
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["schemas"] = dict(sorted(schemas.items()))
    return made


def generate() -> str:
    """The text of docs/openapi.json."""
    from app.main import create_app
    from core.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder)))
        return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Check docs/openapi.json against the routes, or write it; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(prog="python -m app.openapi", description="Check docs/openapi.json.")
    parser.add_argument("--write", action="store_true", help="write the file instead of checking it")
    text = generate()
    if parser.parse_args(arguments).write:
        PATH.write_text(text, "utf-8")
        return 0
    if PATH.read_text("utf-8") == text:
        return 0
    sys.stderr.write("docs/openapi.json is stale: run python -m app.openapi --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
