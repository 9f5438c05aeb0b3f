"""The OpenAPI document, made from the routes."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.http.problem import ProblemDocument

_TAGS = {
    "models": "Transformer models, uploaded file by file or named on the hub.",
    "datasets": "Labelled text, uploaded file by file or named on the hub.",
    "jobs": "One request to prune a model, from the queue to its end.",
    "events": "What happens to a job while it runs.",
    "artifacts": "The files of a result.",
    "webhooks": "Addresses that are told what happens to jobs.",
    "methods": "How models can be pruned.",
    "health": "The service itself.",
    "operations": "The workers, and how the service fares as a whole.",
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, with the problem documents that every route may answer; made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
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
    app.openapi_schema = made
    return made
