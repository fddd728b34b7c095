"""Every kind of credential at MQTT's CONNECT, and every family of topics once connected, against permissions.toml."""

import concurrent.futures
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest

from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish, subscribe, tls_socket
from conversations.provisioning_peer import enrol, token
from hubkeep.testing import HubInThread
from security.credentials import (
    CERTIFIED,
    DEVICE,
    MODULE,
    OTHER,
    PERMISSIONS,
    TWIN,
    Credential,
    Subjects,
    subjects,
    told,
)

__all__ = ["subjects"]

TOPICS: Final[dict[str, dict[str, list[str]]]] = PERMISSIONS["mqtt"]
CLIENTS: Final = {"device": DEVICE, "module": f"{DEVICE}/{MODULE}"}
REGISTRANT: Final = "valve-01"
ACCEPTED, REFUSED = 0, 5


class Case(NamedTuple):
    client: str  # device or module
    verb: str
    topic: str
    allowed: bool

    def __str__(self) -> str:
        return f"{self.client}: {self.verb} {self.topic}"


def peer_of(hub: HubInThread, credential: Credential) -> MqttPeer:
    return MqttPeer(hub, tls_socket(hub, 8883, credential.certificate))


def login(hub: HubInThread, client_id: str, credential: Credential) -> bytes:
    user = USER_NAME.format(host=hub.host_name, client_id=client_id)
    return connect(client_id, user, credential.token or None)


def connack(hub: HubInThread, client_id: str, credential: Credential) -> int | None:
    """The return code; None when the hub closes without one."""
    with peer_of(hub, credential) as peer:
        peer.send(login(hub, client_id, credential))
        answer = peer.read()
        return None if answer is None else answer[1][1]


@pytest.mark.spec("L-M9", "L-R7")
def test_every_credential_at_connect(subjects: Subjects) -> None:
    wrong: list[str] = []
    hub = subjects.hub
    targets = (DEVICE, OTHER, CERTIFIED, f"{DEVICE}/{MODULE}", f"{DEVICE}/{TWIN}")
    cases = [(credential, client) for credential in subjects.all() for client in targets]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        codes = pool.map(lambda case: connack(hub, case[1], case[0]), cases)
    for (credential, client), code in zip(cases, codes, strict=True):
        device, _, module = client.partition("/")
        identity = ("devices", device, *(("modules", module) if module else ()))
        # a token for a part of an identity is too narrow to connect with (device-protocols 2.5)
        if code != (ACCEPTED if credential.may("identity", identity, identity) else REFUSED):
            wrong.append(f"{credential.name} as {client}: {code}")
    told(wrong, len(cases), 200)


def test_no_credential_of_the_hub_registers_a_device(subjects: Subjects) -> None:
    def code(credential: Credential) -> int | None:
        with peer_of(subjects.hub, credential) as peer:
            peer.send(registrant_login(subjects.hub, credential.token or None))
            answer = peer.read()
            return None if answer is None else answer[1][1]

    credentials = subjects.all()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(code, credentials))
    wrong = [f"{each.name}: {got}" for each, got in zip(credentials, codes, strict=True) if got != REFUSED]
    told(wrong, len(codes), 40)


def cases() -> Iterator[Case]:
    families = [(family, verb, topic) for family, verbs in TOPICS.items() for verb in verbs for topic in verbs[verb]]
    values = {"device": DEVICE, "part": MODULE, "other": OTHER, "twin": TWIN}
    for client in (*CLIENTS, "registrant"):
        for _, verb, topic in families:
            filled = topic
            for name, value in values.items():
                filled = filled.replace(f"{{{name}}}", value)
            yield Case(client, verb, filled, topic in TOPICS[client].get(verb, ()))


def registrant_login(hub: HubInThread, shown: str | None) -> bytes:
    return connect(REGISTRANT, f"{hub.id_scope}/registrations/{REGISTRANT}/api-version=2019-03-31", shown)


def outcome(hub: HubInThread, case: Case, credential: Credential) -> bool:
    """Whether the hub carries it out; else it ends the connection."""
    is_registrant = case.client == "registrant"
    with peer_of(hub, credential) as peer:
        hello = (
            registrant_login(hub, credential.token) if is_registrant else login(hub, CLIENTS[case.client], credential)
        )
        peer.send(hello)
        assert peer.read() == (0x20, b"\0\0")
        if case.verb == "publish":
            peer.send(publish(case.topic, b"{}", qos=1))
            return wait_for(peer, 0x40)
        peer.send(subscribe([(case.topic, 1)]))
        return wait_for(peer, 0x90)


def wait_for(peer: MqttPeer, first: int) -> bool:
    """Whether this packet comes; an answer to what was published may come before it."""
    while (got := peer.read()) is not None:
        if got[0] == first:
            return first != 0x90 or got[1][2:] != b"\x80"
    return False


@pytest.mark.spec("L-M14", "L-M15", "P-T06")
def test_every_topic_of_a_device_of_a_module_and_of_a_device_that_registers(subjects: Subjects) -> None:
    hub = subjects.hub
    by_name: dict[str, Any] = {each.name: each for each in subjects.all()}
    credentials = {"device": by_name["device's token"], "module": by_name[f"module {MODULE}'s token"]}
    enrol(hub, REGISTRANT)
    credentials["registrant"] = Credential("an enrolled key's token", token(hub, REGISTRANT, b"p" * 32))
    wrong, count = [], 0
    for case in cases():
        count += 1
        if outcome(hub, case, credentials[case.client]) != case.allowed:
            wrong.append(f"{case}: {'refused, though it may' if case.allowed else 'taken, though it may not'}")
    told(wrong, count, 80)
