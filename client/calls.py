"""What every group of the client's methods is made on."""

from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from client.replies import Item, Page
from client.transport import Transport


class Calls:
    """Methods over one connection; `PruneryClient` puts the groups together."""

    _transport: Transport


def pages(
    transport: Transport, path: str, item: type[Item], filters: Mapping[str, str] | None = None
) -> Iterator[Item]:
    """Every item of a list; pages are fetched as they are needed."""
    adapter: TypeAdapter[Page[Item]] = TypeAdapter(Page[item])  # type: ignore[valid-type]
    cursor: dict[str, str] = {}
    while True:
        reply = transport.request("GET", path, params={**(filters or {}), **cursor})
        page = adapter.validate_json(reply.content)
        yield from page.data
        if not page.has_more or page.next_cursor is None:
            return
        cursor = {"cursor": page.next_cursor}
