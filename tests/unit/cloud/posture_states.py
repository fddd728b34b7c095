"""For each posture check a state of a hub that raises it, one that does not, and one in which it cannot be told."""

from collections.abc import Mapping
from typing import Any, Final

from hubkeep.model import (
    FirmwareVersion,
    FleetFacts,
    GroupFacts,
    HubFacts,
    KeyFacts,
    Named,
    PolicyFacts,
    PolicyUse,
    PostureState,
    Together,
)

NOW: Final = 1_800_000_000.0
DAY: Final = 86_400.0
ONE: Final = Named(1, ("press-07",))
PAIR: Final = (Together("a9375f9d7c2263e2", 2, ("press-07", "press-08")),)


def fleet(**facts: Any) -> PostureState:
    """A hundred devices, all of them here of late and by certificate, and what ``facts`` say."""
    whole = {"identities": 100, "devices": 100, "active": 100, **facts}
    return PostureState(now=NOW, fleet=FleetFacts(**whole), keys=KeyFacts(examined=100))


def hub(**facts: Any) -> PostureState:
    return PostureState(now=NOW, hub=HubFacts(**facts), keys=KeyFacts())


def with_policy(made: float) -> PostureState:
    return PostureState(
        now=NOW,
        fleet=FleetFacts(identities=1, policies=(PolicyUse("dashboards", made, 0.0),)),
        hub=HubFacts(policies=(PolicyFacts("dashboards", ("ServiceConnect",), False),), began=NOW - DAY),
    )


NOTHING: Final = PostureState(now=NOW)
RAISES: Final[Mapping[str, PostureState]] = {
    "PC01": fleet(by_sas=Named(21, ("press-07",))),
    "PC02": with_policy(NOW - 91 * DAY),
    "PC03": fleet(long_tokens=ONE),
    "PC04": fleet(pasted_tokens=ONE),
    "PC05": PostureState(now=NOW, fleet=FleetFacts(identities=2), keys=KeyFacts(examined=2, shared=PAIR)),
    "PC06": fleet(sha1_thumbprints=ONE),
    "PC07": fleet(issued=10, ending_certificates=ONE),
    "PC08": fleet(by_policy=(Together("device", 1, ("press-07",)),)),
    "PC09": fleet(thumbprints=3, lone_thumbprints=ONE),
    "PC10": fleet(rollovers=5, unfinished_rollovers=ONE),
    "PC11": fleet(issued=5, onboarding=ONE),
    "PC12": fleet(never_here=ONE),
    "PC13": fleet(silent=ONE),
    "PC14": fleet(half_open=ONE),
    "PC15": fleet(ownerless=ONE),
    "PC16": fleet(agents=(Together("azure-iot-device-iothub-py/1.4", 1, ("press-07",)),)),
    "PC17": fleet(
        firmware=(FirmwareVersion("2.0", 99, NOW - DAY), FirmwareVersion("1.0", 1, NOW - 400 * DAY, ("press-07",)))
    ),
}
GOOD: Final[Mapping[str, PostureState]] = {
    **dict.fromkeys((f"PC{number:02d}" for number in range(1, 18)), fleet(issued=5, thumbprints=5, rollovers=5)),
    "PC01": fleet(by_sas=Named(20, ("press-07",))),
    "PC02": with_policy(NOW - 89 * DAY),
    "PC16": fleet(agents=(Together("azure-iot-device-iothub-py/2.14.0", 1, ("press-07",)),)),
    "PC17": fleet(firmware=(FirmwareVersion("2.0", 100, NOW - DAY),)),
}
# What the facts do not tell is never good.
UNKNOWN: Final[Mapping[str, PostureState]] = {
    "PC01": fleet(active=0, by_sas=Named()),
    "PC03": fleet(active=0),
    "PC04": fleet(active=0),
    "PC05": PostureState(now=NOW, fleet=FleetFacts(identities=2)),
    "PC08": fleet(active=0),
    "PC16": fleet(),
    "PC17": fleet(),
}
OLD_GROUP: Final = GroupFacts("presses", "symmetricKey", True, (), NOW - 91 * DAY)
