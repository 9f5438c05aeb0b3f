"""What models and datasets have in common on the wire."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.http.problem import Responses
from core.assets.tables import AssetFile

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
HubId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)?$", max_length=200)
]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=128)]
HubConfig = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]

RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of the file as they are.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""The OpenAPI description of an upload's body."""
UPLOADED: Responses = {
    204: {
        "description": "Stored.",
        "headers": {
            "ETag": {"description": "SHA-256 of the stored bytes, quoted.", "schema": {"type": "string"}}
        },
    }
}


class FileView(BaseModel):
    """One file of a model or dataset."""

    name: str
    bytes: int
    sha256: str | None = Field(description="Null while a file of the hub is not fetched and has no hash.")

    @classmethod
    def of(cls, file: AssetFile) -> "FileView":
        """The view of a file."""
        return cls(name=file.name, bytes=file.bytes, sha256=file.sha256)


class HubView(BaseModel):
    """Where an asset of the hub comes from; `revision` is the commit it was resolved to."""

    id: str
    revision: str


class AssetView(BaseModel):
    """The part of a reply that models and datasets share."""

    id: str
    name: str
    source: Literal["upload", "hub"]
    status: Literal["uploading", "pending", "ready"] = Field(
        description="`uploading` takes files; `pending`: the first job fetches it; `ready` is complete."
    )
    bytes: int = Field(description="All files together.")
    digest: str | None = Field(description="A hash of names and contents of the files, once complete.")
    created_at: datetime
    files: list[FileView]
