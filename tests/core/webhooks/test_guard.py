"""What a webhook may lead to: public addresses, whatever they are written as or resolve to, and what is allowed."""

import ipaddress
import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.settings import Settings
from core.webhooks.guard import Guard, Place, UnsafeUrl, look_up

INSIDE = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.1.2.3", "169.254.169.254", "172.31.255.255"),
    *("192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.9"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:8.8.8.8", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1", "2001:db8::1"),
    *("2002:7f00:1::", "3fff::1", "100::1", "fec0::1", "5f00::1"),
]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not Guard().permits(address)
    with pytest.raises(UnsafeUrl, match="public addresses only"):
        Guard(lookup=lambda host, port: [address]).check("https://hooks.example/", 1)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "223.255.255.254", "2606:4700::1111", "2a00::1"]
)
def test_public_addresses_are_permitted(address: str) -> None:
    assert Guard().permits(address)


@settings(max_examples=50)
@given(st.ip_addresses())
@example(ipaddress.ip_address("192.0.0.9"))
def test_whatever_is_permitted_is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if Guard().permits(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example", "ftp://hooks.example/", "file:///etc/passwd", "//hooks.example", "https://"),
        *("http://hooks.example/", "https://user@hooks.example/", "https://user:pass@hooks.example/"),
        *("https://hooks.example/#part", "https://hooks.example\\@127.0.0.1/", "https://hooks.example/a b"),
        *("https://hooks.example:0/", "https://hooks.example:65536/", "https://hooks.example:+80/"),
        *(
            "https://2130706433/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://0177.0.0.1/",
            "https://1.2.3.4.5/",
        ),
        *(
            "https://[::1",
            "https://[1.2.3.4]x/",
            "https://[fe80::1%25eth0]/",
            "https://[:::]/",
            "https://ex\u0430mple.com/",
        ),
        *(
            "https://hooks.example/\r\nx: y",
            "https://hooks.example/\x00",
            "https://127.0.0.1/",
            "https://[::1]/",
        ),
        "https://hooks.example/" + "a" * 2048,
    ],
)
def test_urls_that_are_refused_by_their_form(url: str) -> None:
    def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError("nothing is looked up")

    with pytest.raises(UnsafeUrl) as refused:
        Guard(lookup=never).check(url, 1)
    assert (refused.value.code, refused.value.param) == ("unsafe_url", "/url")


@pytest.mark.parametrize(
    ("url", "place", "authority"),
    [
        ("https://Hooks.example", Place("https", "hooks.example", 443, "/"), "hooks.example"),
        (
            "https://hooks.example:8443/a?b=c",
            Place("https", "hooks.example", 8443, "/a?b=c"),
            "hooks.example:8443",
        ),
        ("https://hooks.example?b", Place("https", "hooks.example", 443, "/?b"), "hooks.example"),
        ("https://[2606:4700::1]/", Place("https", "2606:4700::1", 443, "/"), "[2606:4700::1]"),
        ("http://1.1.1.1:80/", Place("http", "1.1.1.1", 80, "/"), "1.1.1.1"),
    ],
)
def test_urls_in_their_parts(url: str, place: Place, authority: str) -> None:
    found = Guard(allow_http=True).parse(url)
    assert (found, found.authority) == (place, authority)


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(max_codepoint=300), max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://hooks.example/{text}"):
        try:
            place = Guard().parse(url)
        except UnsafeUrl:
            continue
        assert place.host.isascii()
        assert not set(place.target) & set("\r\n #")


def test_networks_that_the_settings_allow() -> None:
    guard = Guard.from_settings(
        Settings(webhook_allow_networks="10.1.0.0/16, ::1/128", webhook_allow_http=True)
    )
    assert guard.permits("10.1.2.3")
    assert guard.permits("::1")
    assert not guard.permits("10.2.0.1")
    assert not guard.permits("::ffff:10.1.2.3")
    guard.check("http://10.1.2.3/", 1)
    with pytest.raises(ValueError, match="webhook_allow_networks"):
        Settings(webhook_allow_networks="10.1.0.0/16,nonsense")


def test_a_name_is_looked_up_by_the_system_and_each_address_named_once() -> None:
    found = look_up("localhost", 80)
    assert set(found) <= {"127.0.0.1", "::1"}
    assert len(found) == len(set(found)) > 0


def test_what_is_no_address_is_not_permitted() -> None:
    assert not Guard(networks=[ipaddress.ip_network("0.0.0.0/0")]).permits("hooks.example")


def test_of_several_addresses_only_the_permitted_are_connected_to() -> None:
    guard = Guard(lookup=lambda host, port: ["10.0.0.1", "1.1.1.1", "::1"])
    assert guard.addresses(guard.parse("https://hooks.example/"), 1) == ["1.1.1.1"]


def test_a_name_that_is_none_and_a_resolver_that_hangs() -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    def hang(host: str, port: int) -> Sequence[str]:
        time.sleep(4)
        return ["1.1.1.1"]

    for lookup in (unknown, hang):
        begun = time.monotonic()
        with pytest.raises(UnsafeUrl, match="cannot be resolved"):
            Guard(lookup=lookup).check("https://hooks.example/", 0.05)
        assert time.monotonic() - begun < 3.5
    with pytest.raises(UnsafeUrl, match="cannot be resolved"):
        Guard().check(f"https://{'a' * 64}.example/", 1)
