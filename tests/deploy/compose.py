"""Reads docker-compose.yml the way Docker does, as far as our file needs it: merge keys, interpolation, services."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:-|:\?)(?P<argument>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service as Docker would start it: its command, environment and health check."""

    name: str
    image: str | None
    target: str | None
    command: tuple[str, ...]
    environment: dict[str, str]
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


def services(variables: dict[str, str]) -> dict[str, Service]:
    """Every service of the file, interpolated with `variables`."""
    text = interpolate((ROOT / "docker-compose.yml").read_text(), variables)
    return {name: _service(name, entry) for name, entry in yaml.safe_load(text)["services"].items()}


def _service(name: str, entry: dict[str, Any]) -> Service:
    test = entry.get("healthcheck", {}).get("test", [])
    return Service(
        name=name,
        image=entry.get("image"),
        target=entry.get("build", {}).get("target"),
        command=tuple(entry.get("command", ())),
        environment={key: str(value) for key, value in entry.get("environment", {}).items()},
        health=tuple(test[1:]) if test[:1] == ["CMD"] else (),
        profiles=tuple(entry.get("profiles", ())),
    )
