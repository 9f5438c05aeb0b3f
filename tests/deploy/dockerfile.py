"""Reads the Dockerfile as far as our deployments need it."""

from dataclasses import dataclass, field

from tests.deploy.compose import ROOT


@dataclass
class Image:
    """One stage of the Dockerfile."""

    user: str | None = None
    install: str = ""
    ports: set[int] = field(default_factory=set)
    command: str = ""


def images() -> dict[str, Image]:
    """Every stage by its name."""
    found: dict[str, Image] = {}
    image = Image()
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image = found[rest.split()[-1]] = Image()
        elif word == "USER":
            image.user = rest
        elif word == "EXPOSE":
            image.ports |= {int(port) for port in rest.split()}
        elif word == "CMD":
            image.command = rest
        elif "pip install" in rest:
            image.install = rest
    return found
