"""The client's methods for results."""

from pathlib import Path

from client import downloads
from client.calls import Calls, pages
from client.replies import Artifact


class ResultCalls(Calls):
    """List and bring the files of a finished job."""

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """The manifest of a succeeded job."""
        return tuple(pages(self._transport, f"/v1/jobs/{job_id}/artifacts", Artifact))

    def download(
        self, job_id: str, folder: Path, *, received: downloads.Received | None = None
    ) -> tuple[Path, ...]:
        """Bring every artifact of a job under `folder`; files that are already there and equal are kept.

        A broken download goes on where it stopped, also in a later call. Raises DownloadBroken when bytes
        differ from the manifest's sha256.
        """
        manifest = self.artifacts(job_id)
        targets = [downloads.destination(folder, artifact.name) for artifact in manifest]
        for artifact, target in zip(manifest, targets, strict=True):
            downloads.fetch(self._transport, artifact, target, received)
        return tuple(targets)

    def download_archive(
        self, job_id: str, target: Path, *, received: downloads.Received | None = None
    ) -> None:
        """Bring the model folder of a job as one tar file."""
        downloads.fetch_archive(self._transport, f"/v1/jobs/{job_id}/archive", target, received)
