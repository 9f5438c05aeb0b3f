"""Conditional writes, whose outcome is the number of rows they changed."""

from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Insert, Update
from sqlalchemy.orm import Session


def rows_changed(session: Session, statement: Insert | Update | Delete) -> int:
    """Execute a write and say how many rows it changed; objects in the session stay as they were."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount  # as every write gives
