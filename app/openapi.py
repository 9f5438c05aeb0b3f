"""The OpenAPI document, made from the routes."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.access import declared
from app.http.problem import ProblemDocument, problems

_TAGS = {
    "models": "Transformer models, uploaded file by file or named on the hub.",
    "datasets": "Labelled text, uploaded file by file or named on the hub.",
    "uploads": "Large files of models and datasets, in parts that can be sent again.",
    "jobs": "One request to prune a model, from the queue to its end.",
    "events": "What happens to a job while it runs.",
    "artifacts": "The files of a result.",
    "account": "API keys with their scopes, limits, and who changed what.",
    "webhooks": "Addresses that are told what happens to jobs.",
    "methods": "How models can be pruned.",
    "health": "The service itself.",
    "operations": "The workers, and how the service fares as a whole.",
}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, with the problem documents and the scopes of every route; made once."""
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
    _add_access(app, made["paths"])
    _leave_null_out(made["paths"])
    app.openapi_schema = made
    return made


def _add_access(app: FastAPI, paths: dict[str, Any]) -> None:
    """Say of every operation which scopes it needs, and how it refuses keys that lack them or ask too often."""
    for path, method, scopes in declared(app):
        if scopes is None:
            continue
        operation = paths[path][method.lower()]
        operation["security"] = [dict.fromkeys(each, scopes) for each in operation["security"]]
        refusals = problems(*((403, 429) if scopes else (429,)))
        answers = operation["responses"] | {str(status): answer for status, answer in refusals.items()}
        operation["responses"] = dict(sorted(answers.items()))


def _leave_null_out(paths: dict[str, Any]) -> None:
    """A parameter has a value or is left out; none can be null, which FastAPI says of all that may be left out."""
    for methods in paths.values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                described = parameter["schema"]
                if alternatives := described.pop("anyOf", None):
                    (value,) = (each for each in alternatives if each != {"type": "null"})
                    parameter["schema"] = value | described
