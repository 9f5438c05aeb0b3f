"""The command that checks downloaded results against their signed manifest, without any service."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from cli.console import out
from client import LocalFileProblem, Manifest, NotVerified
from client.manifest import FILE_NAME

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}")


def verify(
    path: Annotated[
        Path, typer.Argument(help="A folder that `prunery download` made, or its manifest.json.")
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Id of a key that you trust, or a file saved from GET /v1/signing-keys; may be repeated. "
            "Without it any key will do, so that only accidents are found."
        ),
    ] = None,
) -> None:
    """Check the files of a result against its signed manifest; one line for each fault, and exit status 1."""
    trusted = {key_id for given in key or () for key_id in _key_ids(given)}
    source = path / FILE_NAME if path.is_dir() else path
    try:
        manifest = Manifest.read(source.read_bytes())
    except FileNotFoundError:
        raise LocalFileProblem(f"there is no {source}; `prunery download` writes one") from None
    except NotVerified as error:
        _say(f"{source.name}: {error}")
        raise typer.Exit(1) from None
    faults = [*_key_faults(manifest, trusted), *manifest.faults(source.parent)]
    for fault in faults:
        _say(fault)
    if faults:
        raise typer.Exit(1)
    _say(f"{len(manifest.files)} files of {manifest.job} are those that key {manifest.key_id} signed")
    if not trusted:
        _say("whose key that is was not checked: compare it, or give the one that you trust with --key")


def signed_by(manifest: Manifest) -> str:
    """Who vouches for a result, in one line."""
    if manifest.key_id is None:
        return f"{manifest.job} is not signed: it is older than signing, and nobody vouches for its files"
    return f"signed by key {manifest.key_id}"


def _key_faults(manifest: Manifest, trusted: set[str]) -> list[str]:
    if manifest.key_id is None:
        return [f"{FILE_NAME}: {signed_by(manifest)}"]
    if trusted and manifest.key_id not in trusted:
        return [f"{FILE_NAME}: signed by key {manifest.key_id}, which is none of --key"]
    return []


def _key_ids(given: str) -> list[str]:
    """The ids that one --key means."""
    if _KEY_ID.fullmatch(given):
        return [given]
    try:
        return [str(key["kid"]) for key in json.loads(Path(given).read_text("utf-8"))["keys"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise LocalFileProblem(
            f"--key: {given:.120} is neither the id of a key nor a file saved from GET /v1/signing-keys"
        ) from None


def _say(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
