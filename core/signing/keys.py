"""The service's Ed25519 key: a PEM file that only its owner can read, made when there is none."""

import base64
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import LedgerError


class UnusableKey(LedgerError):
    """The file of the signing key does not hold one."""

    code = "unusable_key"


class PrivateKey:
    """A key that signs. It has no text form: neither a log nor an error can show it."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = base64url(key.public_key().public_bytes_raw())
        self.id = thumbprint(self.public_key)

    def sign(self, message: bytes) -> str:
        """The signature (RFC 8032) of a message, in base64url."""
        return base64url(self._key.sign(message))


def load_or_make(path: Path) -> PrivateKey:
    """The key in the PEM file `path`; raises UnusableKey for any other file, and OSError.

    Without a file a key is made. Several processes may do so at once: they end with the same key.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        _make(path)
        content = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableKey(
            f"{path} holds no Ed25519 private key in PEM without a password; `openssl genpkey -algorithm ed25519` "
            "makes one, and so does the service when there is no file."
        )
    return PrivateKey(key)


def thumbprint(public_key: str) -> str:
    """The id of a public key: its JWK thumbprint (RFC 7638) in base64url."""
    members = json.dumps(jwk(public_key), sort_keys=True, separators=(",", ":"))
    return base64url(hashlib.sha256(members.encode()).digest())


def jwk(public_key: str) -> dict[str, str]:
    """The required members of a public key as JWK (RFC 8037)."""
    return {"crv": "Ed25519", "kty": "OKP", "x": public_key}


def base64url(content: bytes) -> str:
    """Base64 for URLs without padding, as JWK wants it."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _make(path: Path) -> None:
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
