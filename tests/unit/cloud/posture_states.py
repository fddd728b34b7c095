"""For each posture check a state of a hub that raises it, one that does not, and one in which it cannot be told."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hubkeep.model import (
    Authority,
    Burst,
    Component,
    FirmwareVersion,
    FleetFacts,
    GroupFacts,
    GroupGrowth,
    HubFacts,
    KeyFacts,
    ListFacts,
    Named,
    Outbound,
    PolicyFacts,
    PolicyUse,
    PostureState,
    RightUse,
    ServerChain,
    Together,
    Usage,
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


def rolling(**facts: Any) -> PostureState:
    return PostureState(now=NOW, fleet=FleetFacts(devices=9, **facts), hub=HubFacts(rollover="prepared"))


def group(*bounds: str) -> GroupFacts:
    return GroupFacts("presses", "symmetricKey", True, bounds, NOW)


def used(policy: str, rights: tuple[str, ...], *uses: RightUse) -> PostureState:
    return hub(policies=(PolicyFacts(policy, rights, False),), right_uses=uses, rights_since=NOW - 200 * DAY)


def authority(name: str, *, days: int, vouched: bool = False) -> Authority:
    """With a certificate that ends in so many days."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.fromtimestamp(NOW, dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    der = made.public_bytes(serialization.Encoding.DER)
    return Authority(
        name=name, certificate=der, sha256="", state="active", etag="", created=0.0, updated=0.0, vouched=vouched
    )


BROAD: Final = ("RegistryWrite", "ServiceConnect", "DeviceConnect")
SERVING: Final = (
    ServerChain("server-ecdsa.pem", "server", NOW + 11 * DAY, True),
    ServerChain("CN=Hubkeep root", "root", NOW + 4 * 365 * DAY, True),
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
    "PC18": fleet(old_tls=ONE),
    "PC19": hub(chain=(ServerChain("server-ecdsa.pem", "server", NOW + 9 * DAY, True),)),
    "PC20": hub(chain=SERVING),
    "PC21": rolling(unproved=ONE),
    "PC22": PostureState(
        now=NOW,
        fleet=FleetFacts(reporting_trust=9, behind_on_trust=ONE),
        hub=HubFacts(bundle=2, bundle_since=NOW - 31 * DAY),
    ),
    "PC24": hub(authorities=(authority("old", days=179),)),
    "PC25": hub(authorities=(authority("vouched", days=900, vouched=True),)),
    "PC26": hub(lists=(ListFacts("plant", "soft", NOW - 20 * DAY, NOW - 8 * DAY, ""),)),
    "PC27": hub(switches=("tls.compat_suites",), began=NOW - 31 * DAY),
    "PC28": hub(groups=(group(),)),
    "PC29": PostureState(
        now=NOW,
        fleet=FleetFacts(identities=100, growth=(GroupGrowth("presses", 31, 10.0),)),
        hub=HubFacts(groups=(group(),)),
    ),
    "PC30": fleet(ownership_conflicts=ONE),
    "PC31": fleet(logins_seen=20, alternating=(Together("6 changes between 10.0.0.1 and 10.0.0.2", 1, ("press-07",)),)),
    "PC32": fleet(bursts=(Burst("203.0.113.9", 500, 3.0),)),
    "PC33": fleet(barred=ONE),
    "PC34": hub(sealing_source="the sealing key is in sealing.key", is_sealing_beside=True),
    "PC35": hub(sealing_made=NOW - 366 * DAY),
    "PC36": used("owner", BROAD, RightUse("owner", "ServiceConnect", NOW - DAY, False)),
    "PC37": used("wide", BROAD, RightUse("wide", "ServiceConnect", NOW - DAY, False)),
    "PC38": hub(people=("ann signs in without a second factor",)),
    "PC39": hub(audit_breaks=("changes: entry 7 is missing",), audit_exported=NOW),
    "PC40": hub(outbound=(Outbound("webhook of presses", "http://hooks.example.net", "without TLS"),)),
    "PC41": fleet(secret_paths=(Together("tags.wifi.password", 1, ("press-07",)),)),
    "PC42": hub(backed_up=NOW - 2 * DAY, drilled=NOW, escrowed=NOW),
    "PC43": hub(components=(Component("Python", "3.9.1", NOW - DAY),)),
    "PC44": hub(usages=(Usage("identities", 81, 100, 100),)),
    "PC45": hub(clock_synchronised=False),
}
GOOD: Final[Mapping[str, PostureState]] = {
    **dict.fromkeys((f"PC{number:02d}" for number in range(1, 18)), fleet(issued=5, thumbprints=5, rollovers=5)),
    "PC01": fleet(by_sas=Named(20, ("press-07",))),
    "PC02": with_policy(NOW - 89 * DAY),
    "PC16": fleet(agents=(Together("azure-iot-device-iothub-py/2.14.0", 1, ("press-07",)),)),
    "PC17": fleet(firmware=(FirmwareVersion("2.0", 100, NOW - DAY),)),
    "PC18": fleet(),
    "PC19": hub(chain=SERVING),
    "PC20": hub(chain=SERVING, backup_roots=1),
    "PC21": rolling(),
    "PC22": PostureState(
        now=NOW,
        fleet=FleetFacts(reporting_trust=9, behind_on_trust=ONE),
        hub=HubFacts(bundle=2, bundle_since=NOW - 29 * DAY),
    ),
    "PC24": hub(authorities=(authority("new", days=181),)),
    "PC25": hub(authorities=(authority("proved", days=900),)),
    "PC26": hub(lists=(ListFacts("plant", "soft", NOW, NOW + DAY, ""),)),
    "PC27": PostureState(
        now=NOW,
        fleet=FleetFacts(switch_uses={"tls.compat_suites": NOW - DAY}),
        hub=HubFacts(switches=("tls.compat_suites",), began=NOW - 31 * DAY),
    ),
    "PC28": hub(groups=(group("limit"),)),
    "PC29": PostureState(
        now=NOW,
        fleet=FleetFacts(identities=100, growth=(GroupGrowth("presses", 29, 10.0),)),
        hub=HubFacts(groups=(group(),)),
    ),
    **dict.fromkeys(("PC30", "PC31", "PC32", "PC33", "PC41"), fleet(logins_seen=20)),
    "PC34": hub(sealing_source="a command gives the sealing key", is_sealing_beside=False),
    "PC35": hub(sealing_made=NOW - 364 * DAY),
    "PC36": used("owner", BROAD, RightUse("owner", "ServiceConnect", NOW - DAY, True)),
    "PC37": used("exact", ("ServiceConnect",), RightUse("exact", "ServiceConnect", NOW - DAY, False)),
    "PC38": hub(people=()),
    "PC39": hub(audit_breaks=(), audit_exported=NOW - DAY / 2),
    "PC40": hub(outbound=(Outbound("webhook of presses", "https://hooks.example.net", ""),)),
    "PC42": hub(backed_up=NOW - DAY / 2, drilled=NOW - 89 * DAY, escrowed=NOW - 900 * DAY),
    "PC43": hub(components=(Component("Python", "3.13.1", NOW + DAY),)),
    "PC44": hub(usages=(Usage("identities", 79, 100, 100),)),
    "PC45": hub(clock_synchronised=True, clock_error=0.4),
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
    "PC18": fleet(active=0),
    "PC19": NOTHING,
    "PC20": NOTHING,
    "PC22": NOTHING,
    "PC23": NOTHING,
    "PC27": hub(switches=("lenient_subscriptions",)),
    "PC31": fleet(),
    "PC34": NOTHING,
    "PC37": hub(rights_since=NOW - 29 * DAY),
    "PC38": NOTHING,
    "PC39": NOTHING,
    "PC43": NOTHING,
    "PC44": NOTHING,
    "PC45": NOTHING,
}
OLD_GROUP: Final = GroupFacts("presses", "symmetricKey", True, (), NOW - 91 * DAY)
