"""Networks that may, and that may not: of a listener, or of a shared access policy."""

import functools
import ipaddress

import msgspec

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Networks(msgspec.Struct, frozen=True, kw_only=True):
    """allow, deny: IPv4 and IPv6 networks as ``parse_networks`` writes them. Denying wins; once something is allowed,
    the rest is closed; neither: open to all."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


def parse_networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each written in the one usual way, no double; a single address is a network of one.

    Raises ValueError: no network, or one with bits set behind its prefix, which would mean another than it says.
    """
    found = (_network(each.strip()) for each in texts)
    return tuple(dict.fromkeys(str(each if each.num_addresses > 1 else each.network_address) for each in found))


def why_shut_out(networks: Networks, address: str) -> str:
    """Why somebody at ``address`` may not come, for the operator; empty: they may. Costs nothing where no rule is."""
    return _why(networks, address) if networks.allow or networks.deny else ""


@functools.lru_cache(4096)  # asked at every connection and proof, of a few networks and the same addresses
def _why(networks: Networks, address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address or 'a peer'} has no address to judge by"
    if isinstance(found, ipaddress.IPv6Address):
        # a socket for both versions shows IPv4 peers so
        found = found.ipv4_mapped or found
    for each in networks.deny:
        if found in _network(each):
            return f"{each} is denied"
    if networks.allow and not any(found in _network(each) for each in networks.allow):
        return f"only {_listed(networks.allow)} {'is' if len(networks.allow) == 1 else 'are'} allowed"
    return ""


@functools.lru_cache(1024)
def _network(text: str) -> _Network:
    if "%" in text:
        raise ValueError(f"{text!r} names an interface, which is no part of a network")
    found = ipaddress.ip_network(text)
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        return ipaddress.IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
    return found


def _listed(networks: tuple[str, ...]) -> str:
    shown = ", ".join(networks[:3])
    return f"{shown} and {len(networks) - 3} more" if len(networks) > 3 else shown
