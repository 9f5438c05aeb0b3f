"""How many requests a key may make in a minute, counted in Redis by all API processes, else by each for itself."""

import logging
import math
import threading
import time
from dataclasses import dataclass
from functools import cached_property

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.errors import RateLimited
from core.settings import Settings

WINDOW_SECONDS = 60
REDIS_SECONDS = 0.25
"""Longest wait for Redis; a request is not worth more."""
AWAY_SECONDS = 10.0
"""Redis that did not answer is left alone for so long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rate:
    """What is left of a key's requests. `headers` are those of the IETF draft (ratelimit-headers-10)."""

    allowed: bool
    headers: dict[str, str]
    reset_seconds: int = 0

    def require(self) -> None:
        """Raise RateLimited when this request is one too many."""
        if not self.allowed:
            message = f"Too many requests with this API key; go on in {self.reset_seconds} s."
            raise RateLimited(message, retry_seconds=self.reset_seconds)


class Rates:
    """Counts requests by key over a sliding minute; 0 `per_minute` counts nothing.

    A Redis that is away holds nobody up and lets nobody through unlimited: its counts are taken over in memory,
    and `fallbacks` says how many requests were judged so.
    """

    def __init__(self, per_minute: int, redis_url: str | None) -> None:
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._redis_url = redis_url
        self._away_until = 0.0
        self._lock = threading.Lock()
        self.fallbacks = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> "Rates":
        """Redis is the broker's, where the broker is one. Opens no connection and starts no thread."""
        url = settings.broker_url if settings.broker_url.startswith(("redis:", "rediss:")) else None
        return cls(settings.requests_per_minute, url)

    def take(self, key_id: str) -> Rate:
        """Count one request of a key."""
        if self._item is None:
            return Rate(allowed=True, headers={})
        if self._redis_url is not None:
            if time.monotonic() >= self._away_until:
                try:
                    return _take(self._shared, self._item, key_id)
                except RedisError as error:
                    self._away_until = time.monotonic() + AWAY_SECONDS
                    _log.warning("Redis is away (%s); requests are counted here.", type(error).__name__)
            with self._lock:
                self.fallbacks += 1
        return _take(self._own, self._item, key_id)

    @cached_property
    def _own(self) -> SlidingWindowCounterRateLimiter:
        return SlidingWindowCounterRateLimiter(MemoryStorage())

    @cached_property
    def _shared(self) -> SlidingWindowCounterRateLimiter:
        url = self._redis_url or ""
        pool = ConnectionPool.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        return SlidingWindowCounterRateLimiter(RedisStorage(url, pool, key_prefix="prunery-rate"))


def _take(limiter: SlidingWindowCounterRateLimiter, item: RateLimitItemPerMinute, key_id: str) -> Rate:
    allowed = limiter.hit(item, key_id)
    reset_at, remaining = limiter.get_window_stats(item, key_id)
    reset = max(1, math.ceil(reset_at - time.time()))
    headers = {
        "RateLimit-Policy": f'"key";q={item.amount};w={WINDOW_SECONDS}',
        "RateLimit": f'"key";r={remaining if allowed else 0};t={reset}',
    }
    return Rate(allowed, headers, reset)
