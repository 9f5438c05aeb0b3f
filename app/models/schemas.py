"""How models are made and shown."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from app.assets import AssetView, FileView, HubId, HubView, Name, Revision
from app.http.payload import Payload
from core.assets.tables import AssetFile, Model


class HubReference(Payload):
    """A model of the hub."""

    id: HubId = Field(examples=["bert-base-uncased"])
    revision: Revision = Field(default="main", description="Branch, tag or commit; resolved to a commit.")


class NewModel(Payload):
    """A model to be uploaded under a name, or one of the hub."""

    name: Name | None = Field(default=None, examples=["minilm-l6"])
    hub: HubReference | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.hub is None):
            raise ValueError("Give either a name, to upload files, or hub.")
        return self


class ModelView(AssetView):
    """A model."""

    model_type: str | None = Field(description="The architecture, such as bert, once known.")
    parameters: int | None = Field(description="Number of weights in its files, once known.")
    hub: HubView | None

    @classmethod
    def of(cls, model: Model, files: Sequence[AssetFile]) -> "ModelView":
        """The view of a model and its files."""
        hub = None
        if model.hub_id is not None and model.hub_revision is not None:
            hub = HubView(id=model.hub_id, revision=model.hub_revision)
        return cls(
            id=model.id,
            name=model.name,
            source=model.source,
            status=model.status,
            bytes=model.bytes,
            digest=model.digest,
            created_at=model.created_at,
            files=[FileView.of(file) for file in files],
            model_type=model.model_type,
            parameters=model.parameters,
            hub=hub,
        )
