"""Where webhooks may lead: which addresses are refused, by their form and by what their names stand for.

A request to a server of a client's choice must reach nothing inside (server-side request forgery). The name is
resolved once; what it stood for is judged, and connected to, so that a second answer cannot lead elsewhere.
"""

import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from typing import Self

from core.errors import InvalidRequest
from core.settings import Settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Sequence[str]]

MAX_LENGTH = 2048
PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!-\"$-\[\]-~]*)?"
)
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)

# By the IANA registries of special-purpose addresses. Of IPv6 only 2000::/3 is handed out at all: everything else,
# such as loopback, link-local, unique local, multicast, IPv4-mapped and NAT64 addresses, is outside of it.
_REFUSED_4 = [
    IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
    )
]
_HANDED_OUT_6 = IPv6Network("2000::/3")
_REFUSED_6 = [IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


class UnsafeUrl(InvalidRequest):
    """The address of a webhook that this service sends nothing to."""

    code = "unsafe_url"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="/url")


@dataclass(frozen=True)
class Place:
    """A URL in its parts; `host` is without brackets, `target` is path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system's resolver orders them; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True)
class Guard:
    """What the settings allow: `http://`, and networks beside public addresses."""

    allow_http: bool = False
    networks: Sequence[Network] = ()
    lookup: Lookup = look_up

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The guard of a service."""
        listed = (each.strip() for each in (settings.webhook_allow_networks or "").split(","))
        return cls(settings.webhook_allow_http, tuple(ip_network(each) for each in listed if each))

    def parse(self, url: str) -> Place:
        """The parts of a URL; raises UnsafeUrl. No second parser reads it, so none can read it differently."""
        match = _URL.fullmatch(url)
        if match is None or len(url) > MAX_LENGTH:
            raise UnsafeUrl(
                f"This is no https:// address of at most {MAX_LENGTH} plain characters, without user and fragment."
            )
        if match["scheme"] == "http" and not self.allow_http:
            raise UnsafeUrl("Use https://; PRUNERY_WEBHOOK_ALLOW_HTTP allows http:// for development.")
        port = int(match["port"] or PORTS[match["scheme"]])
        if not 0 < port < 65536:
            raise UnsafeUrl(f"There is no port {port}.")
        target = match["target"] or "/"
        host = match["host"].strip("[]").lower()
        if (":" in host or _NUMBER.fullmatch(host.rpartition(".")[2])) and _literal(host) is None:
            raise UnsafeUrl(f"{host} is neither a name nor an address in its usual form.")
        return Place(match["scheme"], host, port, target if target[0] == "/" else f"/{target}")

    def addresses(self, place: Place, seconds: float) -> Sequence[str]:
        """The addresses to connect to, at least one; raises UnsafeUrl, OSError or TimeoutError."""
        found = (
            [place.host] if _literal(place.host) else _within(seconds, self.lookup, place.host, place.port)
        )
        allowed = [each for each in found if self.permits(each)]
        if not allowed:
            stands_for = "" if found == [place.host] else f"{place.host} stands for "
            raise UnsafeUrl(
                f"{stands_for}{', '.join(found) or 'no address'}: webhooks reach public addresses only, "
                "and those of PRUNERY_WEBHOOK_ALLOW_NETWORKS."
            )
        return allowed

    def check(self, url: str, seconds: float) -> None:
        """Refuse a URL that leads nowhere or to where it must not; raises UnsafeUrl."""
        place = self.parse(url)
        try:
            self.addresses(place, seconds)
        except OSError as error:
            raise UnsafeUrl(f"The name {place.host} cannot be resolved; correct it, or try again.") from error

    def permits(self, text: str) -> bool:
        """Whether an address is public, or in a network that the settings allow."""
        address = _literal(text)
        if address is None:
            return False
        if any(address.version == network.version and address in network for network in self.networks):
            return True
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _REFUSED_4)
        return address in _HANDED_OUT_6 and not any(address in network for network in _REFUSED_6)


def _literal(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _within(seconds: float, lookup: Lookup, host: str, port: int) -> Sequence[str]:
    """Look a name up in a thread, which nobody waits for longer than `seconds`: the resolver takes its own time."""
    answer: SimpleQueue[Sequence[str] | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(lookup(host, port))
        except (OSError, UnicodeError) as error:
            answer.put(OSError(str(error)))

    threading.Thread(target=ask, name="webhook-lookup", daemon=True).start()
    try:
        found = answer.get(timeout=max(seconds, 0))
    except Empty:
        raise TimeoutError(f"The name {host} was not resolved in time.") from None
    if isinstance(found, OSError):
        raise found
    return found
