"""Reads our compose files as Docker does, as far as they need it: merge keys, interpolation, overrides, services."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:-|:\?)(?P<argument>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service as Docker would start it: its command, environment, what it waits for, health check."""

    name: str
    image: str | None
    target: str | None
    command: tuple[str, ...]
    environment: dict[str, str]
    after: dict[str, str]
    health: tuple[str, ...]
    profiles: tuple[str, ...]


def interpolate(text: str, variables: dict[str, str]) -> str:
    """Replace ${NAME}, ${NAME:-default}, ${NAME:?message}; a required variable that is unset raises KeyError."""

    def replace(match: re.Match[str]) -> str:
        value = variables.get(match["name"], "")
        if value or match["operator"] is None:
            return value
        if match["operator"] == ":?":
            raise KeyError(match["argument"])
        return match["argument"]

    return _VARIABLE.sub(replace, text)


def services(variables: dict[str, str], *overrides: str) -> dict[str, Service]:
    """Every service of docker-compose.yml and the files laid over it, interpolated with `variables`."""
    files = ("docker-compose.yml", *overrides)
    texts = [interpolate((ROOT / name).read_text(), variables) for name in files]
    merged: dict[str, Any] = {}
    for text in texts:
        merged = _merge(merged, yaml.safe_load(text)["services"])
    return {name: _service(name, entry) for name, entry in merged.items()}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, deep down; of anything else the file above has the last word."""
    both = {
        key: _merge(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return below | above | both


def _service(name: str, entry: dict[str, Any]) -> Service:
    test = entry.get("healthcheck", {}).get("test", [])
    return Service(
        name=name,
        image=entry.get("image"),
        target=entry.get("build", {}).get("target"),
        command=tuple(entry.get("command", ())),
        environment={key: str(value) for key, value in entry.get("environment", {}).items()},
        after={key: value["condition"] for key, value in entry.get("depends_on", {}).items()},
        health=tuple(test[1:]) if test[:1] == ["CMD"] else (),
        profiles=tuple(entry.get("profiles", ())),
    )
