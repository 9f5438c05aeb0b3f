"""Conditional writes, whose outcome is the number of rows they changed."""

from sqlalchemy import CursorResult, Delete, Update
from sqlalchemy.orm import Session


def rows_changed(session: Session, statement: Update | Delete) -> int:
    """Execute an UPDATE or DELETE and say how many rows it changed; objects in the session are left as they were."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    if not isinstance(result, CursorResult):
        raise TypeError("An UPDATE or DELETE gives a cursor result.")
    return result.rowcount
