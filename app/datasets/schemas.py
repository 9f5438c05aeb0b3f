"""How datasets are made and shown."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from app.assets import AssetView, FileView, HubConfig, HubId, HubView, Name, Revision
from app.http.payload import Payload
from core.assets.tables import AssetFile, Dataset
from pruning.spec import Columns


class HubReference(Payload):
    """A dataset of the hub."""

    id: HubId = Field(examples=["stanfordnlp/sst2"])
    config: HubConfig | None = Field(default=None, description="Configuration, where there are several.")
    revision: Revision = Field(default="main", description="Branch, tag or commit; resolved to a commit.")


class NewDataset(Payload):
    """A dataset to be uploaded under a name, or one of the hub."""

    name: Name | None = Field(default=None, examples=["support-tickets"])
    hub: HubReference | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.hub is None):
            raise ValueError("Give either a name, to upload files, or hub.")
        return self


class Completion(Payload):
    """How to read the files; columns that are left out are found by their usual names."""

    columns: Columns = Field(default=Columns(), examples=[{"text": "utterance", "label": "intent"}])


class DatasetHubView(HubView):
    """Where a dataset of the hub comes from."""

    config: str | None


class DatasetView(AssetView):
    """A dataset."""

    summary: dict[str, Any] | None = Field(description="Rows, columns and classes, once complete.")
    hub: DatasetHubView | None

    @classmethod
    def of(cls, dataset: Dataset, files: Sequence[AssetFile]) -> "DatasetView":
        """The view of a dataset and its files."""
        hub = None
        if dataset.hub_id is not None and dataset.hub_revision is not None:
            hub = DatasetHubView(id=dataset.hub_id, revision=dataset.hub_revision, config=dataset.hub_config)
        return cls(
            id=dataset.id,
            name=dataset.name,
            source=dataset.source,
            status=dataset.status,
            bytes=dataset.bytes,
            digest=dataset.digest,
            created_at=dataset.created_at,
            files=[FileView.of(file) for file in files],
            summary=dataset.summary,
            hub=hub,
        )
