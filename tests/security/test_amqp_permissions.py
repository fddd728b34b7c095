"""Every AMQP link address with every kind of credential, against the list of permissions.toml."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import pytest

from conversations.amqp_peer import AmqpPeer, condition
from conversations.mqtt_peer import tls_socket
from hubkeep.connection.amqp.attaching import DEVICE_LINKS, SERVICE_LINKS
from hubkeep.wire.amqp.performatives import Detach
from security.credentials import (
    CERTIFIED,
    DEVICE,
    EVENTS,
    MODULE,
    OTHER,
    PEOPLE,
    PERMISSIONS,
    TWIN,
    Credential,
    Subjects,
    subjects,
    told,
)

__all__ = ["subjects"]

LISTED: Final[Mapping[str, str]] = PERMISSIONS["amqp"]
SCOPE: Final = "0ne-of-the-hub"  # stands for the hub's own
UNLISTED: Final = (
    *("sender /messages/events", "sender /messages/servicebound/feedback", "receiver /messages/devicebound"),
    *("receiver /", "sender /devices", f"sender /devices/{DEVICE}", "receiver $nothing", f"sender {EVENTS}"),
    *(f"sender {EVENTS}/ConsumerGroups/$Default/Partitions/0", f"receiver {EVENTS}/ConsumerGroups/$Default"),
    *(f"sender /devices/{DEVICE}/messages/devicebound", f"receiver /devices/{DEVICE}/files"),
    *(f"sender /devices/{DEVICE}/modules/{MODULE}", f"receiver /devices/../devices/{DEVICE}/twin"),
)


class Case(NamedTuple):
    role: str
    address: str
    allowed: bool | None  # None: no such link, for anybody


def filled(address: str, device: str, module: str) -> str:
    values = {"device": device, "part": module, "events": EVENTS, "scope": SCOPE, "registration": device}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], address)


def may(credential: Credential, right: str, path: tuple[str, ...], identity: tuple[str, ...]) -> bool:
    if right == "identity" and credential.identity and credential.scope:
        return False  # a link stands for the whole identity
    if credential.certificate and credential.identity and identity == ("devices", CERTIFIED):
        return True  # one connection carries many identities, each with a proof of its own
    return credential.may(right, path, identity)


def cases_of(credential: Credential) -> Iterator[Case]:
    for row, right in LISTED.items():
        role, address = row.split(" ")
        targets = [(DEVICE, MODULE), (DEVICE, TWIN), (OTHER, MODULE), (CERTIFIED, MODULE)]
        if "{part}" not in address:
            targets = targets[::2] + targets[3:] if "{device}" in address else targets[:1]
        for device, module in targets:
            target = filled(address, device, module)
            path = tuple(each if each in {device, module} else each.lower() for each in target.strip("/").split("/"))
            identity = path[: 4 if "{part}" in address else 2]
            if credential.role is not None:
                # for a role that is for some devices, each message is judged by itself
                is_each = right == "SC" and address == "/messages/devicebound"
                need = PEOPLE["amqp"].get(row)
                yield Case(role, target, credential.person_may(need, many=is_each))
                continue
            # of a module that is not there, nobody's links are
            is_there = device == DEVICE or "{part}" not in address
            yield Case(role, target, is_there and may(credential, right, path, identity))
    for row in UNLISTED:
        role, address = row.split(" ")
        yield Case(role, address, None)


def refusal(peer: AmqpPeer, case: Case, handle: int) -> str:
    """Why the hub refuses the link; empty when it accepts it."""
    address = case.address.replace(SCOPE, peer.hub.id_scope)
    answer = peer.attach(address, handle=handle, receiver=case.role == "receiver")
    if (answer.source is not None) or (answer.target is not None):
        peer.send(Detach(handle, True))
        peer.expect(Detach)
        return ""
    error = condition(peer.expect(Detach).error)
    peer.send(Detach(handle, True))
    return error


def fault(case: Case, error: str, *, is_somebody: bool) -> str:
    if case.allowed is None:
        refused = {"amqp:unauthorized-access", *(("amqp:not-found",) if is_somebody else ())}
        return "" if error in refused else f"{error or 'accepted'}, though no row has it"
    if case.allowed:
        return "" if error in {"", "amqp:link:redirect"} else f"{error}, though it may"
    return "" if error == "amqp:unauthorized-access" else f"{error or 'accepted'}, though it may not"


def credentials_of(subjects: Subjects) -> Iterator[Credential]:
    for each in (*subjects.all(), *subjects.of_events()):
        # on $cbs nothing but the token says whose it is, and ids in another case are other ids (L-I9)
        yield each._replace(identity=()) if "another case" in each.name else each


def connected(subjects: Subjects, credential: Credential) -> AmqpPeer:
    """What proves nothing is refused on $cbs, and the connection goes on as nobody's."""
    peer = AmqpPeer(subjects.hub, tls_socket(subjects.hub, 5671, credential.certificate)).opened()
    peer.node()
    if credential.token:
        is_good = credential.is_genuine
        status = peer.put_token(credential.token).status
        assert status == (200 if is_good else 401), f"{credential.name}: {status}"
    return peer


def test_every_link_stands_in_the_list() -> None:
    """Rows that the hub has, in the words of the list."""
    listed = {filled(each, "x", "y").lower().replace("/modules/y", "") for each in LISTED}
    listed |= {each.replace("/devices/x/", "") for each in listed}
    for role, feature in (*DEVICE_LINKS, *SERVICE_LINKS):
        assert {f"{role} {feature}", f"{role} /{feature}"} & listed, f"{role} {feature}"


@pytest.mark.spec("L-A15", "P-T06")
def test_every_credential_at_every_link(subjects: Subjects) -> None:
    wrong, count = [], 0
    for credential in credentials_of(subjects):
        with connected(subjects, credential) as peer:
            for handle, case in enumerate(cases_of(credential), 200):
                count += 1
                if text := fault(case, refusal(peer, case, handle), is_somebody=credential.is_genuine):
                    wrong.append(f"{credential.name}: {case.role} {case.address}: {text}")
    told(wrong, count, 2000)


def test_reading_the_event_endpoints_properties(subjects: Subjects) -> None:
    """``$management`` is open to attach to; each request is judged (5.4)."""
    ask = {"operation": "READ", "name": EVENTS, "type": "com.microsoft:eventhub"}
    wrong, count = [], 0
    for credential in credentials_of(subjects):
        with connected(subjects, credential) as peer:
            peer.node("$management", handle=300)
            status = peer.request(ask, handle=300).status
            count += 1
            may_read = credential.may("events", (EVENTS, "$management"))
            if credential.role is not None:
                may_read = credential.person_may("events/read")
            if status != (200 if may_read else 401):
                wrong.append(f"{credential.name}: {status}")
    told(wrong, count, 40)
