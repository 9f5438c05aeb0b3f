"""Which local files go up, and how: read once, streamed, hashed on the way."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx

from client.errors import LocalFileProblem, UploadBroken
from client.transport import Transport

Sent = Callable[[str, int], None]
"""Called while uploading with the file's name and the bytes sent since the last call."""

_CHUNK = 1 << 20
_MODEL_FILE = re.compile(
    r"(added_tokens|config|generation_config|special_tokens_map|tokenizer|tokenizer_config|vocab)\.json"
    r"|merges\.txt|vocab\.txt|model\.safetensors(\.index\.json)?|model-[0-9]{5}-of-[0-9]{5}\.safetensors"
)
_SPLIT_NAME = re.compile(r"(train|validation|test)\.(jsonl|csv|parquet)")
_DATA_SUFFIXES = (".jsonl", ".csv", ".parquet")


def takes_model_file(name: str) -> bool:
    """Whether the service takes a file of this name as part of a model."""
    return _MODEL_FILE.fullmatch(name) is not None


def model_files(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a Hugging Face folder that the service takes, by name, and the names of those it does not.

    Raises LocalFileProblem when the folder holds no config.json or no safetensors weights.
    """
    if not folder.is_dir():
        raise LocalFileProblem(f"model: {folder} is not a folder; give the folder that holds config.json")
    taken, skipped = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            if takes_model_file(name):
                taken[name] = path
            else:
                skipped.append(name)
    if "config.json" not in taken:
        raise LocalFileProblem(
            f"model: {folder} has no config.json; give the folder of one Hugging Face model"
        )
    if not any(name.endswith(".safetensors") for name in taken):
        raise LocalFileProblem(
            f"model: {folder} has no model.safetensors; save the model with save_pretrained, which writes it"
        )
    return taken, tuple(skipped)


def dataset_files(source: Path | Mapping[str, Path]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of a dataset under their split names, and the names of those that are left out.

    `source` is one file (it becomes `train`), a folder with train/validation/test files, or a mapping from
    split to file. Raises LocalFileProblem when there is no train split or a file is of another kind.
    """
    if isinstance(source, Mapping):
        return {f"{split}{_data_suffix(path)}": path for split, path in source.items()}, ()
    if source.is_file():
        return {f"train{_data_suffix(source)}": source}, ()
    if not source.is_dir():
        raise LocalFileProblem(f"dataset: there is no file or folder {source}")
    files = {path.name: path for path in sorted(source.iterdir()) if path.is_file()}
    taken = {name: path for name, path in files.items() if _SPLIT_NAME.fullmatch(name)}
    if not any(name.startswith("train.") for name in taken):
        raise LocalFileProblem(f"dataset: {source} has no train.jsonl, train.csv or train.parquet")
    return taken, tuple(name for name in files if name not in taken)


def _data_suffix(path: Path) -> str:
    if path.suffix not in _DATA_SUFFIXES:
        raise LocalFileProblem(f"dataset: {path} is none of {', '.join(_DATA_SUFFIXES)}")
    if not path.is_file():
        raise LocalFileProblem(f"dataset: there is no file {path}")
    return path.suffix


def send(
    transport: Transport, collection: str, asset_id: str, name: str, path: Path, sent: Sent | None
) -> None:
    """PUT one file; raises UploadBroken when the service's digest of it differs from what was read."""
    digests: list[str] = []

    def body() -> Iterator[bytes]:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                yield chunk
                if sent is not None:
                    sent(name, len(chunk))
        digests.append(digest.hexdigest())

    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
    response = transport.request(
        "PUT", f"/v1/{collection}/{asset_id}/files/{quote(name)}", headers=headers, body=body
    )
    if response.headers.get("etag", "").strip('"') != digests[-1]:
        raise UploadBroken(f"{name}: the service stored other bytes than {path} holds; upload it again")


def upload(
    transport: Transport, collection: str, files: Mapping[str, Path], name: str, sent: Sent | None
) -> httpx.Response:
    """Make an asset, send its files and complete it; the answer describes it."""
    created = transport.request("POST", f"/v1/{collection}", json={"name": name}).json()
    for file_name, path in files.items():
        send(transport, collection, created["id"], file_name, path, sent)
    return transport.request("POST", f"/v1/{collection}/{created['id']}/complete")
