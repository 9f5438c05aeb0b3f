"""Keys and manifests by the letter of their standards."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from sqlalchemy import select

from client import Manifest
from core.artifacts.repository import ArtifactRecord
from core.db import Database
from core.jobs.leases import claim, finish
from core.jobs.tables import Job
from core.signing.keys import UnusableKey, load_or_make, thumbprint
from core.signing.manifest import signed_bytes
from core.signing.signer import Signer
from core.signing.tables import Signature
from tests.support.ledger import make_job


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """RFC 8037, appendix A.3."""
    public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_signature_is_that_of_the_standard(tmp_path: Path) -> None:
    """RFC 8037, appendix A.4: the key and message of its example."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = Ed25519PrivateKey.from_private_bytes(seed)
    path = tmp_path / "key.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert load_or_make(path).sign(message) == (
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_processes_that_start_together_end_with_one_key(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_or_make(path).id, range(8)))
    assert len(keys) == 1
    assert [file.name for file in path.parent.iterdir()] == ["key.pem"]


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    pem = generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(UnusableKey, match="openssl genpkey"):
        load_or_make(tmp_path / "key.pem")


def test_what_is_signed_does_not_depend_on_order_or_spaces() -> None:
    assert signed_bytes({"b": [{"y": 1, "x": "é"}], "a": None}) == '{"a":null,"b":[{"x":"é","y":1}]}'.encode()


def test_processes_that_sign_at_once_sign_once(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        make_job(session)
        claimed = claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        assert claimed is not None
        finish(session, claimed.token, artifacts=[ArtifactRecord("a", 1, "b" * 64, "x/y")], report={})
    signers = [Signer(database, tmp_path / "key.pem") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Signer.sign_new, signers))
    with database.read() as session:
        job = session.get_one(Job, claimed.token.job_id)
        (signature,) = session.scalars(select(Signature))
    manifest = signers[0].signed_manifest(job)
    assert manifest["signature"] == signature.signature
    assert Manifest.read(json.dumps(manifest).encode()).key_id == signature.key_id == signers[1].key.id
    assert signers[2].public_keys() == [signers[3].key.public_key]
