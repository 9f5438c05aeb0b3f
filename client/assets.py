"""The client's methods for models and datasets."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from client import selection, uploads
from client.calls import Calls, pages
from client.replies import Dataset, Model


class AssetCalls(Calls):
    """Upload, show, list and delete models and datasets."""

    def upload_model(
        self, folder: Path, *, name: str | None = None, sent: uploads.Sent | None = None
    ) -> Model:
        """Upload a Hugging Face folder: its weights (safetensors), configuration and tokenizer.

        Other files stay behind; `selection.model_files(folder)` says which. Large files go in parts: after an
        interruption the same call goes on with what is there. Raises LocalFileProblem for an unusable folder.
        """
        files, _ = selection.model_files(folder)
        reply = uploads.upload(self._transport, "models", files, name or folder.resolve().name, sent)
        return Model.model_validate_json(reply.content)

    def upload_dataset(
        self, source: Path | Mapping[str, Path], *, name: str | None = None, sent: uploads.Sent | None = None
    ) -> Dataset:
        """Upload one file (the train split), a folder with train/validation/test files, or {split: file}.

        Goes on after an interruption as `upload_model` does.
        """
        files, _ = selection.dataset_files(source)
        name = name or (source.resolve().stem if isinstance(source, Path) else "dataset")
        reply = uploads.upload(self._transport, "datasets", files, name, sent)
        return Dataset.model_validate_json(reply.content)

    def models(self) -> Iterator[Model]:
        """Every model, newest first."""
        return pages(self._transport, "/v1/models", Model)

    def datasets(self) -> Iterator[Dataset]:
        """Every dataset, newest first."""
        return pages(self._transport, "/v1/datasets", Dataset)

    def model(self, model_id: str) -> Model:
        """One model."""
        return Model.model_validate_json(self._transport.request("GET", f"/v1/models/{model_id}").content)

    def dataset(self, dataset_id: str) -> Dataset:
        """One dataset."""
        return Dataset.model_validate_json(
            self._transport.request("GET", f"/v1/datasets/{dataset_id}").content
        )

    def delete_model(self, model_id: str) -> None:
        """Delete a model that no unfinished job uses."""
        self._transport.request("DELETE", f"/v1/models/{model_id}")

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset that no unfinished job uses."""
        self._transport.request("DELETE", f"/v1/datasets/{dataset_id}")
