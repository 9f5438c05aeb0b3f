"""Engines per dialect, with the settings that keep SQLite correct under several processes."""

import json
import math
import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_SECONDS = 30
BEGIN = "prunery_begin"
"""Execution option: how a SQLite transaction begins, "IMMEDIATE" for one that will write."""


def make_engine(url: str) -> Engine:
    """An engine for `sqlite:///...` or `postgresql+psycopg://...`; raises ValueError for anything else."""
    if url.startswith("sqlite:"):
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=to_json)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if url.startswith("postgresql+psycopg:"):
        return create_engine(
            url,
            connect_args={"connect_timeout": 5, "application_name": "prunery"},
            json_serializer=to_json,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=10,
            pool_timeout=10,
        )
    raise ValueError(
        f"{url.partition(':')[0]!r} is not a supported database; use sqlite:///... or postgresql://..."
    )


def to_json(value: Any) -> str:
    """JSON as the standard has it: NaN and infinities, which it cannot write, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _configure_sqlite(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions by itself: a deferred one that later writes fails at once with
    # "database is locked", whatever the busy timeout.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(BEGIN, 'DEFERRED')}")
