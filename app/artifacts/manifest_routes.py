"""What vouches for results: the signed manifest of each, and the public keys to check it with."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.access import needs, no_key
from app.artifacts.results import of_succeeded
from app.deps import Asker, Door, JobId
from app.http.problem import problems
from core.accounts.scopes import Scope
from core.signing.keys import jwk, thumbprint

router = APIRouter(tags=["artifacts"])


class PublicKey(BaseModel):
    """An Ed25519 public key as JWK (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str = Field(description="The key, in base64url.")
    kid: str = Field(description="Its id: the JWK thumbprint (RFC 7638) in base64url.")


class KeySet(BaseModel):
    """Public keys as a JWK set: the one that signs now, then those that signed before."""

    keys: list[PublicKey]


class ManifestFile(BaseModel):
    """A file of a result."""

    name: str
    bytes: int
    sha256: str


class ManifestView(BaseModel):
    """What a result consists of. `signature` is over the canonical JSON (RFC 8785) of all other members."""

    format: Literal["prunery-manifest/1"]
    job: str
    published_at: str
    files: list[ManifestFile] = Field(description="By name.")
    key: PublicKey | None = Field(description="What signed; null for a result older than signing.")
    signature: str | None = Field(description="Ed25519 (RFC 8032), in base64url.")


@router.get(
    "/v1/jobs/{job_id}/manifest",
    operation_id="get_manifest",
    summary="Get the signed manifest of a result",
    dependencies=[needs(Scope.ARTIFACTS_READ)],
    responses=problems(401, 404, 409, 422, 500, 503),
)
def get_manifest(services: Door, caller: Asker, job_id: JobId) -> ManifestView:
    """Every file of the result with its size and SHA-256, signed once when it was published."""
    job, _ = of_succeeded(services, caller, job_id)
    return ManifestView.model_validate(services.signer.signed_manifest(job))


@router.get(
    "/v1/signing-keys",
    operation_id="list_signing_keys",
    summary="List the public keys",
    dependencies=[no_key],
    responses=problems(500, 503),
)
def list_signing_keys(services: Door) -> KeySet:
    """The keys that check manifests; public, so without an API key."""
    keys = [jwk(key) | {"kid": thumbprint(key)} for key in services.signer.public_keys()]
    return KeySet.model_validate({"keys": keys})
