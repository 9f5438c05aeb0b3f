"""Keys, limits and the audit log through the client."""

from datetime import UTC, datetime, timedelta

import pytest

from client import ApiProblem, PruneryClient
from tests.support.api import Api


def test_a_key_is_made_used_and_revoked(api: Api, client: PruneryClient) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    made = client.account.create_key("ci", ["jobs:read"], expires_at=end)
    with PruneryClient(api.url, made.key) as restricted:
        assert all(job.id for job in restricted.jobs())
        shown = restricted.account.show()
        assert (shown.owner, shown.key.scopes, shown.key.expires_at) == ("us", ("jobs:read",), end)
        assert shown.quotas["queued_jobs"].limit == 1000
        with pytest.raises(ApiProblem, match="models:read") as refused:
            list(restricted.models())
        assert (refused.value.status, refused.value.code) == (403, "insufficient_scope")
        client.account.revoke_key(made.id)
        with pytest.raises(ApiProblem) as refused:
            restricted.account.show()
        assert refused.value.status == 401
    (listed,) = filter(lambda key: key.id == made.id, client.account.keys())
    assert listed.revoked_at is not None
    revoked = next(client.account.audit(action="key.revoke"))
    assert (revoked.object, revoked.actor) == (made.id, client.account.show().key.id)
    assert any(record.action == "needs.models:read" for record in client.account.audit())
