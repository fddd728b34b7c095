"""Whom the hub may reach by itself: containers of blobs, and whatever else an operator or a back end names by URL.

Whoever may give the hub an address could otherwise use it to look into the network that it stands in (SSRF). So what is
not public is closed unless a setting opens it: this machine, the link, private networks, the cloud's metadata
addresses. A name is looked up here, once, and the connection goes to an address that was checked: a name that leads
elsewhere a moment later (DNS rebinding) leads nowhere. Redirects are the client's to refuse: see endpoints/http_client.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from hubkeep.errors import EgressRefused
from hubkeep.ports import Destination

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_PORTS: Final = {"https": 443, "http": 80}
_NAME_LENGTH: Final = 253
# of IPv6: these carry an IPv4 address in their last four bytes, and a gateway takes them there
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED_LOCALLY: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


class EgressRules:
    """allow, deny: names, ``*.name`` for all below one, addresses, networks. Raises ValueError for any other entry.

    only_allowed: nothing is reached but what allow names. resolve: the addresses of a name, as text; raises OSError.
    """

    def __init__(
        self, allow: Iterable[str], deny: Iterable[str], resolve: Resolve, *, only_allowed: bool = False
    ) -> None:
        self._allow, self._deny = _Entries(allow), _Entries(deny)
        self._resolve, self._only_allowed = resolve, only_allowed

    async def destination(self, url: str) -> Destination:
        """See ports.Egress."""
        parts, port = _split(url)
        host = (parts.hostname or "").rstrip(".")
        if self._deny.has_name(host):
            raise _refused(host, "settings deny this name")
        is_opened = self._allow.has_name(host)
        addresses = await self._addresses(host, port)
        open_ones = [each for each in addresses if self._is_open(each, is_opened=is_opened)]
        if not open_ones:
            raise _refused(host, f"it leads to {', '.join(map(str, addresses))}, which is not open")
        if parts.scheme == "http" and not (is_opened or all(map(self._allow.has_address, open_ones))):
            raise _refused(host, "it would be reached without TLS")
        return Destination(parts.scheme, host, port, tuple(map(str, open_ones)))

    def _is_open(self, address: Address, *, is_opened: bool) -> bool:
        if self._deny.has_address(address):
            return False
        if is_opened or self._allow.has_address(address):
            return True
        return not self._only_allowed and is_public(address)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]
        except ValueError:
            pass
        if not host or len(host) > _NAME_LENGTH:
            raise _refused(host, "it is no name")
        try:
            # without the zone of a link-local address, which is closed with or without it
            return [ipaddress.ip_address(each.partition("%")[0]) for each in await self._resolve(host, port)]
        except (OSError, ValueError, UnicodeError) as error:
            raise _refused(
                host, f"it cannot be looked up: {error}", remedy="check the name and the hub's DNS"
            ) from None


def is_public(address: Address) -> bool:
    """Whether an address is everybody's: none of this machine, of a private network, of a group, nor reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED_LOCALLY:
            return False
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and (address in _TRANSLATED or address in _COMPATIBLE):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved)


class _Entries:
    """Names and networks of one list."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._above: list[str] = []  # with the dot before them
        self._networks: list[Network] = []
        for entry in entries:
            self._add(entry.strip().lower().rstrip("."))

    def _add(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry))
        except ValueError:
            name = entry.removeprefix("*.")
            labels = name.split(".")
            is_name = all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels)
            if not is_name or not name.isascii() or labels[-1].isdigit() or len(name) > _NAME_LENGTH:
                raise ValueError(f"{entry!r} is no name, address or network") from None
            if name == entry:
                self._names.add(name)
            else:
                self._above.append(f".{name}")

    def has_name(self, host: str) -> bool:
        return host in self._names or any(host.endswith(each) for each in self._above)

    def has_address(self, address: Address) -> bool:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any(each in network for each in (address, mapped) if each is not None for network in self._networks)


def _split(url: str) -> tuple[SplitResult, int]:
    """Raises EgressRefused for what is no plain http or https URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise EgressRefused("The address is no http or https URL.") from None
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise EgressRefused("The address holds characters that no URL has.")
    if parts.username is not None or parts.password is not None or parts.fragment or not parts.hostname:
        raise EgressRefused("The address is a URL with a host, without user and fragment.")
    return parts, port


def _refused(host: str, why: str, remedy: str = "") -> EgressRefused:
    return EgressRefused(
        reason=f"{host[:128]!r} is not reached: {why}",
        remedy=remedy or "if the hub should reach it, name it in the setting egress.allow",
    )
