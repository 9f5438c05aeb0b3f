"""Models and datasets of the hub: what a reference stands for, and its files. Nothing it says is trusted."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

from core.artifacts.local import full_disk_reported
from core.assets.files import FileRecord, HubDatasetInfo, HubModelInfo, HubReference
from core.assets.hubfiles import dataset_files, model_files
from core.assets.inspect import CONFIG_BYTES, check_config
from core.assets.jsonfiles import read_object
from core.errors import HubUnavailable, InvalidRequest, NotFound, TooLarge
from core.settings import Settings
from core.settings.units import GIB

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo

Kind = Literal["model", "dataset"]
TIMEOUT_SECONDS = 10.0
CHUNK = 1 << 20


class HubClient:
    """The hub at one address; `token` opens private and gated repositories."""

    def __init__(
        self,
        endpoint: str,
        token: str | None = None,
        *,
        max_model_bytes: int = 20 * GIB,
        max_dataset_bytes: int = 2 * GIB,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._max_bytes: dict[Kind, int] = {"model": max_model_bytes, "dataset": max_dataset_bytes}

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The hub that the settings name; None where it is switched off."""
        if not settings.hub_enabled:
            return None
        token = settings.hub_token.get_secret_value() if settings.hub_token else None
        limits = {
            "max_model_bytes": settings.max_model_bytes,
            "max_dataset_bytes": settings.max_dataset_bytes,
        }
        return cls(settings.hub_endpoint, token, **limits)

    def resolve_model(self, hub_id: str, revision: str | None = None) -> HubModelInfo:
        """The commit, files and checked config.json of a model.

        Raises NotFound, InvalidRequest, InvalidModel, TooLarge or HubUnavailable.
        """
        commit, listed = self._list("model", hub_id, revision)
        files = model_files(hub_id, listed)
        self._check_size("model", hub_id, files)
        config_file = next(file for file in files if file.name == "config.json")
        with tempfile.TemporaryDirectory(prefix="prunery-hub-") as folder:
            reference = HubReference("model", hub_id, commit)
            path = self._download(reference, config_file, Path(folder))
            config = read_object(path, max_bytes=CONFIG_BYTES)
        return HubModelInfo(hub_id, commit, config, check_config(config), files)

    def resolve_dataset(
        self, hub_id: str, config: str | None = None, revision: str | None = None
    ) -> HubDatasetInfo:
        """The commit of a dataset, and the file of each split.

        Raises NotFound, InvalidRequest, InvalidData, TooLarge or HubUnavailable.
        """
        commit, listed = self._list("dataset", hub_id, revision)
        files = dataset_files(hub_id, config, listed)
        self._check_size("dataset", hub_id, files)
        return HubDatasetInfo(hub_id, config, commit, files)

    def fetch(
        self, reference: HubReference, files: Sequence[FileRecord], folder: Path
    ) -> tuple[FileRecord, ...]:
        """Download the listed files into `folder`, by their server-made names, and say what they are.

        Raises NotFound, StorageFull, or HubUnavailable, also when a file is not what the hub listed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        fetched = []
        for file in files:
            target = folder / file.name
            with full_disk_reported(), tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
                self._download(reference, file, Path(scratch)).replace(target)
            fetched.append(_checked(file, target))
        return tuple(fetched)

    def _list(self, kind: Kind, hub_id: str, revision: str | None) -> tuple[str, dict[str, FileRecord]]:
        """The resolved commit, and every file of the repository whose size is known, by its path there."""
        info = self._info(kind, hub_id, revision)
        if info.sha is None:
            raise HubUnavailable(f"The hub does not say which commit of {hub_id} it means.")
        listed = {}
        for file in info.siblings or ():
            if file.size is not None:
                sha256 = file.lfs.sha256 if file.lfs else None
                listed[file.rfilename] = FileRecord(file.rfilename, file.size, sha256, file.rfilename)
        return info.sha, listed

    def _info(self, kind: Kind, hub_id: str, revision: str | None) -> "ModelInfo | DatasetInfo":
        from huggingface_hub import HfApi

        api = HfApi(self._endpoint, token=self._token or False)
        look_up = api.model_info if kind == "model" else api.dataset_info
        with _translated(kind, hub_id):
            return look_up(hub_id, revision=revision, timeout=TIMEOUT_SECONDS, files_metadata=True)

    def _download(self, reference: HubReference, file: FileRecord, folder: Path) -> Path:
        from huggingface_hub import hf_hub_download

        with _translated(reference.kind, reference.id):
            path = hf_hub_download(
                reference.id,
                str(file.hub_path),
                repo_type=reference.kind,
                revision=reference.revision,
                cache_dir=folder / "cache",
                local_dir=folder / "files",
                endpoint=self._endpoint,
                token=self._token or False,
                etag_timeout=TIMEOUT_SECONDS,
            )
        return Path(path)

    def _check_size(self, kind: Kind, hub_id: str, files: Sequence[FileRecord]) -> None:
        size, limit = sum(file.bytes for file in files), self._max_bytes[kind]
        if size > limit:
            raise TooLarge(f"{hub_id} has {size:,} bytes; a {kind} may have {limit:,}.", param=f"/{kind}")


def _checked(file: FileRecord, path: Path) -> FileRecord:
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    if path.stat().st_size != file.bytes or file.sha256 not in (None, sha256):
        path.unlink()
        raise HubUnavailable(f"{file.hub_path} is not what the hub listed; try again.", code="hub_mismatch")
    return FileRecord(file.name, file.bytes, sha256, file.hub_path)


@contextmanager
def _translated(kind: Kind, hub_id: str) -> Iterator[None]:
    """Say in our words what the hub's client raises."""
    from huggingface_hub import errors

    # The base of the hub's errors is that of its HTTP client, which differs between its versions.
    http_error = cast("type[Exception]", errors.HfHubHTTPError.__bases__[0])
    param = f"/{kind}"
    try:
        yield
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.DisabledRepoError):
        message = (
            f"The hub has no {kind} {hub_id!r}, or it is private or gated and our token does not open it."
        )
        raise NotFound(message, param=param) from None
    except errors.RevisionNotFoundError:
        raise NotFound(f"{hub_id} has no such revision.", param=f"{param}/revision") from None
    except errors.RemoteEntryNotFoundError:
        raise NotFound(f"A file of {hub_id} is gone from the hub.", param=param) from None
    except errors.HFValidationError:
        raise InvalidRequest(f"{hub_id!r:.200} is not the name of a repository.", param=param) from None
    except (
        http_error,
        errors.FileMetadataError,
        errors.LocalEntryNotFoundError,
        ConnectionError,
    ) as error:
        raise HubUnavailable(f"The hub did not answer for {hub_id}.") from error
