"""Puts together what concerns the roots of the hub's own certificates."""

import ipaddress
from collections.abc import Callable, Sequence

from hubkeep.cloud.secrets import write_secret
from hubkeep.connection.root_rollover import RootRollover
from hubkeep.connection.signed_bundle import SignedBundle
from hubkeep.limits import Limits
from hubkeep.model import LinkInfo, Principal
from hubkeep.ports import Clock
from hubkeep.settings import Settings

Note = Callable[[Principal, LinkInfo], None]


def opened_rollover(settings: Settings, names: Sequence[str], clock: Clock, limits: Limits) -> RootRollover:
    return RootRollover(
        settings.data,
        names,
        canary_name(settings),
        write_secret,
        clock.now,
        kept=limits.root_kept,
        rsa_root=settings.mode == "serve",
    )


def signed_bundle(settings: Settings, rollover: RootRollover, scope: str, clock: Clock) -> SignedBundle:
    def hosts() -> dict[str, list[str]]:
        canary = [rollover.canary_name] if rollover.state.phase != "steady" else []
        return {"hub": [settings.host_name], "dps": [settings.host_name], "canary": canary}

    return SignedBundle(settings.data, rollover.trust_bundle, scope, hosts, write_secret, clock.now)


def canary_name(settings: Settings) -> str:
    """Empty where there can be none: clients send no SNI for an address."""
    if settings.tls.canary_name:
        return settings.tls.canary_name.lower()
    try:
        ipaddress.ip_address(settings.host_name)
    except ValueError:
        return f"canary.{settings.host_name}".lower()
    return ""


def noted_by(*notes: Note) -> Note:
    def note(principal: Principal, link: LinkInfo) -> None:
        for each in notes:
            each(principal, link)

    return note
