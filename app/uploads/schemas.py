"""How uploads in parts are declared and shown."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.http.payload import Payload
from core.assets.tables import Dataset, Model
from core.uploads.repository import Declaration
from core.uploads.tables import Upload, UploadPart


class NewUpload(Payload):
    """A file that is to come in parts."""

    model: str | None = Field(default=None, description="Id of the model that it is for.")
    dataset: str | None = Field(default=None, description="Id of the dataset that it is for.")
    name: str = Field(min_length=1, max_length=128, examples=["model.safetensors"])
    bytes: int = Field(ge=1, description="Size of the whole file.")
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the whole file, in hex.", examples=["0" * 64]
    )

    @model_validator(mode="after")
    def _one_asset(self) -> Self:
        if (self.model is None) == (self.dataset is None):
            raise ValueError("Give either a model or a dataset.")
        return self

    def declaration(self) -> Declaration:
        """The same for the ledger."""
        kind = Dataset if self.model is None else Model
        return Declaration(kind, self.model or self.dataset or "", self.name, self.bytes, self.sha256)


class PartView(BaseModel):
    """A part that has come."""

    number: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, part: UploadPart) -> "PartView":
        """The view of a part."""
        return cls(number=part.number, bytes=part.bytes, sha256=part.sha256)


class UploadView(BaseModel):
    """A file that comes in parts."""

    id: str
    model: str | None
    dataset: str | None
    name: str
    bytes: int
    sha256: str
    part_bytes: int = Field(description="Size of every part but the last.")
    part_count: int = Field(description="How many parts there are; the first is number 1.")
    status: Literal["receiving", "complete"] = Field(
        description="`receiving` takes parts; `complete` has become a file of its model or dataset."
    )
    parts: list[PartView] = Field(description="The parts that have come; none once it is complete.")
    created_at: datetime
    updated_at: datetime = Field(description="When the last part came.")

    @classmethod
    def of(cls, upload: Upload, parts: Sequence[UploadPart]) -> "UploadView":
        """The view of an upload and its parts."""
        return cls(
            id=upload.id,
            model=upload.model_id,
            dataset=upload.dataset_id,
            name=upload.name,
            bytes=upload.bytes,
            sha256=upload.sha256,
            part_bytes=upload.part_bytes,
            part_count=upload.part_count,
            status=upload.status,
            parts=[PartView.of(part) for part in parts],
            created_at=upload.created_at,
            updated_at=upload.updated_at,
        )
