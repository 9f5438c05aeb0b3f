"""Requests are counted by key, in Redis or without it, and nobody waits for a Redis that is away."""

import socket
import time

import pytest
from fastapi.testclient import TestClient

from app.http.rates import Rates
from app.main import create_app
from core.accounts.repository import create_key, create_owner
from core.errors import RateLimited
from tests.app.conftest import MakeSettings, problem


def test_a_request_too_many_is_told_when_to_come_again(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(requests_per_minute=3))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        first, second = (create_key(session, owner.id, "key")[1] for _ in range(2))
    with TestClient(app, headers={"Authorization": f"Bearer {first}"}) as client:
        replies = [client.get(path) for path in ("/v1/methods", "/v1/account", "/v1/jobs/none")]
        assert [reply.status_code for reply in replies] == [200, 200, 404]
        assert all(reply.headers["ratelimit-policy"] == '"key";q=3;w=60' for reply in replies)
        assert [reply.headers["ratelimit"].split(";")[1] for reply in replies] == ["r=2", "r=1", "r=0"]
        refused = client.get("/v1/methods")
        problem(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit"] == f'"key";r=0;t={refused.headers["retry-after"]}'
        assert client.get("/v1/methods", headers={"Authorization": f"Bearer {second}"}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_nothing_is_counted_where_the_settings_say_so() -> None:
    rates = Rates(0, None)
    assert all(rates.take("key_1").allowed and not rates.take("key_1").headers for _ in range(5))


def test_processes_share_their_counts_over_redis(redis_url: str) -> None:
    one, other = Rates(2, redis_url), Rates(2, redis_url)
    assert [rates.take("key_1").allowed for rates in (one, other, one, other)] == [True, True, False, False]
    with pytest.raises(RateLimited):
        one.take("key_1").require()
    assert one.take("key_2").allowed
    assert (one.fallbacks, other.fallbacks) == (0, 0)


def test_a_redis_that_hangs_or_is_down_costs_one_short_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        hanging = Rates(2, url)
        began = time.monotonic()
        assert [hanging.take("key_1").allowed for _ in range(3)] == [True, True, False]
        assert time.monotonic() - began < 2
        assert hanging.fallbacks == 3
    down = Rates(1, url)
    assert [down.take("key_1").allowed for _ in range(2)] == [True, False]
    assert down.fallbacks == 2


def test_redis_is_asked_again_when_it_is_back(redis_url: str) -> None:
    rates = Rates(100, redis_url)
    rates._away_until = time.monotonic() + 60
    rates.take("key_1")
    rates._away_until = time.monotonic()
    assert '"key";r=99' in rates.take("key_1").headers["RateLimit"]
    assert rates.fallbacks == 1
