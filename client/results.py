"""The client's methods for results."""

import json
from pathlib import Path

from client import downloads
from client.calls import Calls, pages
from client.errors import NotVerified
from client.manifest import FILE_NAME, Manifest
from client.replies import Artifact


class ResultCalls(Calls):
    """List, bring and verify the files of a finished job."""

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """The files of a succeeded job."""
        return tuple(pages(self._transport, f"/v1/jobs/{job_id}/artifacts", Artifact))

    def signing_keys(self) -> tuple[str, ...]:
        """Ids of the keys that this service signs with and has signed with, the present one first."""
        reply = self._transport.request("GET", "/v1/signing-keys").json()
        return tuple(str(key["kid"]) for key in reply["keys"])

    def manifest(self, job_id: str) -> Manifest:
        """What the files of a succeeded job are, signed by a key of this service.

        Raises NotVerified for a signature that is not one. A result older than signing has none: `key_id` is None.
        """
        manifest = Manifest.read(self._transport.request("GET", f"/v1/jobs/{job_id}/manifest").content)
        if manifest.job != job_id:
            raise NotVerified(f"the service sent the manifest of {manifest.job} for {job_id}")
        if manifest.key_id is not None and manifest.key_id not in self.signing_keys():
            raise NotVerified(
                f"the manifest of {job_id} is signed by {manifest.key_id}, no key of this service"
            )
        return manifest

    def download(
        self, job_id: str, folder: Path, *, received: downloads.Received | None = None
    ) -> tuple[Path, ...]:
        """Bring every artifact of a job under `folder`; files that are already there and equal are kept.

        A broken download goes on where it stopped, also in a later call. `manifest.json` beside them is what
        `prunery verify` checks them by. Raises NotVerified when the manifest is not signed by a key of this
        service or names other files, and DownloadBroken when bytes differ from its sha256.
        """
        manifest, artifacts = self.manifest(job_id), self.artifacts(job_id)
        manifest.require_same({artifact.name: artifact.sha256 for artifact in artifacts})
        targets = [downloads.destination(folder, artifact.name) for artifact in artifacts]
        for artifact, target in zip(artifacts, targets, strict=True):
            downloads.fetch(self._transport, artifact, target, received)
        text = json.dumps(manifest.document, indent=2, ensure_ascii=False)
        (folder / FILE_NAME).write_text(f"{text}\n", "utf-8")
        return tuple(targets)

    def download_archive(
        self, job_id: str, target: Path, *, received: downloads.Received | None = None
    ) -> None:
        """Bring the model folder of a job as one tar file; raises as `download` does."""
        manifest = self.manifest(job_id)
        path = f"/v1/jobs/{job_id}/archive"
        downloads.fetch_archive(self._transport, path, target, manifest.require_archive, received)
