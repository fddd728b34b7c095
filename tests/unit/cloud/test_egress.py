"""Whom the hub may reach by itself."""

import ipaddress
from collections.abc import Sequence

import pytest

from hubkeep.cloud.egress import EgressRules, is_public
from hubkeep.errors import EgressRefused
from hubkeep.ports import Destination

PUBLIC, PRIVATE = "20.60.1.2", "10.1.2.3"
NAMES = {
    "public.example.com": [PUBLIC],
    "inner.example.com": [PRIVATE],
    "both.example.com": [PRIVATE, PUBLIC, "2603:1030::1"],
    "localhost": ["::1", "127.0.0.1"],
    "127.1": ["127.0.0.1"],  # as resolvers read it
    "link.example.com": ["fe80::1%eth0"],
}


async def resolve(host: str, port: int) -> Sequence[str]:
    try:
        return NAMES[host]
    except KeyError:
        raise OSError(f"{host} is not known") from None


def rules(*allow: str, deny: Sequence[str] = (), only_allowed: bool = False) -> EgressRules:
    return EgressRules(allow, deny, resolve, only_allowed=only_allowed)


async def addresses(rules: EgressRules, url: str) -> tuple[str, ...]:
    return (await rules.destination(url)).addresses


async def test_what_is_public_is_reached_at_the_addresses_that_were_checked() -> None:
    asked = "https://public.example.com/container?sv=1&sig=a%2Fb"
    assert await rules().destination(asked) == Destination("https", "public.example.com", 443, (PUBLIC,))
    assert await addresses(rules(), f"https://{PUBLIC}:8443/") == (PUBLIC,)
    assert await addresses(rules(), "https://both.example.com") == (PUBLIC, "2603:1030::1")
    assert await addresses(rules(), "https://PUBLIC.example.com./") == (PUBLIC,)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://localhost/",
        "https://inner.example.com/",
        "https://link.example.com/",
        "https://[::1]/",
        "https://[::]/",
        "https://0.0.0.0/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::1]/",
        "https://[2002:7f00:1::1]/",
        "https://[fd00::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[ff02::1]/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/metadata/instance",
        "https://100.64.0.1/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://unknown.example.com/",
        "http://public.example.com/",  # the token in the URL would be read on the way
        "ftp://public.example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///container",
        "https://user@public.example.com/",
        "https://public.example.com@127.0.0.1/",
        "https://public.example.com/#x",
        "https://public.example.com:99999/",
        "https://public.example.com\\@127.0.0.1/",
        "https://pub lic.example.com/",
        "https://[::1",
        "",
    ],
)
async def test_what_is_not_public_is_closed(url: str) -> None:
    with pytest.raises(EgressRefused):
        await rules().destination(url)


async def test_settings_open_and_close() -> None:
    assert await addresses(rules("10.0.0.0/8"), "https://inner.example.com") == (PRIVATE,)
    assert await addresses(rules("inner.example.com"), "http://inner.example.com:80") == (PRIVATE,)
    assert await addresses(rules("*.EXAMPLE.com"), "https://inner.example.com") == (PRIVATE,)
    assert await addresses(rules("::1"), "https://localhost") == ("::1",)
    assert await addresses(rules("127.0.0.0/8"), "http://[::ffff:127.0.0.1]:10000/a") == ("::ffff:7f00:1",)
    refused = [
        (rules("example.com"), "https://inner.example.com"),  # that name alone
        (rules("*.xample.com"), "https://inner.example.com"),
        (rules("127.0.0.1"), "https://127.0.0.2"),
        (rules("inner.example.com", deny=["10.1.0.0/16"]), "https://inner.example.com"),
        (rules(deny=["public.example.com"]), "https://public.example.com"),
        (rules(deny=["*.example.com"]), "https://public.example.com"),
        (rules(deny=["20.0.0.0/8"]), "https://public.example.com"),
        (rules("127.0.0.1", only_allowed=True), "https://public.example.com"),
        (rules("10.0.0.0/8"), "http://public.example.com"),
    ]
    for each, url in refused:
        with pytest.raises(EgressRefused):
            await each.destination(url)


async def test_the_operator_is_told_why_and_what_would_open_it() -> None:
    with pytest.raises(EgressRefused) as refused:
        await rules().destination("https://inner.example.com/c?sig=secret")
    assert str(refused.value) == "The hub may not reach this address."
    assert refused.value.reason == "'inner.example.com' is not reached: it leads to 10.1.2.3, which is not open"
    assert "egress.allow" in refused.value.remedy


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "a b", "10.0.0.1/8", "300.1.1.1", "https://a.example", "a.example:443"]
)
def test_an_entry_that_is_nothing_is_told(entry: str) -> None:
    with pytest.raises(ValueError, match="no name, address or network"):
        rules(entry)


def test_public_addresses() -> None:
    for each in ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert is_public(ipaddress.ip_address(each)), each
