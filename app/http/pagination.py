"""Lists: a page of data and an opaque cursor to the next one."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from app.http.problem import FieldError, Problem
from core.db.pages import Page

T = TypeVar("T")
Row = TypeVar("Row")

Limit = Annotated[int, Query(ge=1, le=100, description="Most items of one page.")]


class Listing(BaseModel, Generic[T]):
    """One page of a list, newest first."""

    data: list[T]
    has_more: bool = Field(description="Whether there are further pages.")
    next_cursor: str | None = Field(description="Send it as `cursor` to get the next page; null on the last.")


def listing(page: Page[Row], view: Callable[[Row], T]) -> Listing[T]:
    """A page of rows as clients see it."""
    cursor = None if page.next_cursor is None else encode_cursor(page.next_cursor)
    return Listing(data=[view(row) for row in page.data], has_more=page.has_more, next_cursor=cursor)


def encode_cursor(last_id: str) -> str:
    """The cursor behind the item `last_id`."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def decode_cursor(
    cursor: Annotated[
        str | None, Query(max_length=128, description="`next_cursor` of the page before; leave out at first.")
    ] = None,
) -> str | None:
    """The id that a cursor stands for; raises Problem 422 for one that this service did not make."""
    if cursor is None:
        return None
    try:
        last_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        last_id = ""
    if not re.fullmatch(r"[a-z]{3}_[0-9a-z]{26}", last_id):
        message = "This is no cursor of this service; use next_cursor of the page before, or leave it out."
        error = FieldError(pointer="query:cursor", code="invalid_cursor", message=message)
        raise Problem(422, "invalid_cursor", message, errors=[error])
    return last_id


Cursor = Annotated[str | None, Depends(decode_cursor)]
