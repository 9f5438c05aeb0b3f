"""Lists of the service, page by page."""

from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from client.replies import Item, Page
from client.transport import Transport


def items(
    transport: Transport, path: str, item: type[Item], filters: Mapping[str, str] | None = None
) -> Iterator[Item]:
    """Every item of a list; pages are fetched as they are needed."""
    adapter: TypeAdapter[Page[Item]] = TypeAdapter(Page[item])  # type: ignore[valid-type]
    cursor: dict[str, str] = {}
    while True:
        page = adapter.validate_json(
            transport.request("GET", path, params={**(filters or {}), **cursor}).content
        )
        yield from page.data
        if not page.has_more or page.next_cursor is None:
            return
        cursor = {"cursor": page.next_cursor}
