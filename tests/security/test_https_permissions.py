"""Every HTTPS address and verb with every kind of credential, against the list of permissions.toml."""

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import tls_socket
from hubkeep.connection.operations import OPERATIONS
from hubkeep.testing import HubInThread
from security.credentials import (
    CERTIFIED,
    DEVICE,
    MODULE,
    OTHER,
    PEOPLE,
    PERMISSIONS,
    Credential,
    Subjects,
    subjects,
    told,
)

__all__ = ["subjects"]

LISTED: Final[Mapping[str, str]] = PERMISSIONS["https"]
VERBS: Final = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
VALUES: Final = {"id": DEVICE, "device": DEVICE, "module": MODULE, "part": MODULE}
OF_ADMINISTRATORS: Final = ("all", "all or CF", "CF", "EW", "ER", "SW", "SR")
CONNECTIONS: Final = 8
AT_ONCE: Final = 25  # requests sent before the first answer is read
UNKNOWN: Final = (
    *("/", "/api", "/api/nothing", "/$admin/status", "/twins", "/digitaltwins", "/messages", "/openapi"),
    *(f"/devices/{DEVICE}/{each}" for each in ("keys", "modules/vision/files", "messages", "twin")),
    *(f"/twins/{DEVICE}/{each}" for each in ("tags", "modules", "modules/vision/tags")),
)


class Case(NamedTuple):
    """allowed: whether the credential may; None: the address is not there, for anybody."""

    credential: Credential
    method: str
    path: str
    allowed: bool | None
    right: str = ""

    def __str__(self) -> str:
        return f"{self.credential.name}: {self.method} {self.path}"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Pipelined:
    """One connection on which requests are sent before the answers to the ones before are read."""

    def __init__(self, hub: HubInThread, certificate: Path | None = None) -> None:
        self.socket = tls_socket(hub, 443, certificate)
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, cases: Iterable[Case]) -> None:
        out = b""
        for case in cases:
            token = f"Authorization: {case.credential.token}\r\n" if case.credential.token else ""
            out += f"{case.method} {case.path} HTTP/1.1\r\nHost: a\r\n{token}Content-Length: 0\r\n\r\n".encode()
        self.socket.sendall(out)

    def read(self, method: str) -> Answer:
        line = self._file.readline()
        assert line.startswith(b"HTTP/1.1 "), "the hub closed the connection"
        headers = {}
        while (each := self._file.readline().strip()) != b"":
            name, _, value = each.decode().partition(":")
            headers[name.lower()] = value.strip()
        has_body = method != "HEAD" and not line.startswith(b"HTTP/1.1 204")
        return Answer(int(line[9:12]), headers, self._file.read(int(headers["content-length"])) if has_body else b"")


def answers(hub: HubInThread, cases: Sequence[Case]) -> Iterator[tuple[Case, Answer]]:
    """Credentials take turns on a few connections; certificates have connections of their own."""
    lanes: dict[Any, list[Case]] = {}
    for number, case in enumerate(cases):
        lanes.setdefault(case.credential.certificate or number % CONNECTIONS, []).append(case)
    connections = {key: Pipelined(hub, key if isinstance(key, Path) else None) for key in lanes}
    try:
        for start in range(0, max(map(len, lanes.values())), AT_ONCE):
            for key, lane in lanes.items():
                connections[key].send(lane[start : start + AT_ONCE])
            for key, lane in lanes.items():
                for case in lane[start : start + AT_ONCE]:
                    yield case, connections[key].read(case.method)
    finally:
        for each in connections.values():
            each.close()


def pattern(path: str) -> re.Pattern[str]:
    return re.compile(
        "/".join("[^/]+" if each.startswith("{") else re.escape(each) for each in path.split("/")), re.IGNORECASE
    )


def normal(address: str) -> str:
    """An address without the case of its words and the names of its values."""
    return re.sub(r"\{\w+\}", "{}", address.lower()).replace("get ", "GET ")


def filled(path: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], "x"), path)


def built() -> set[str]:
    return {normal(each.address) for each in OPERATIONS if each.surface == "https"}


def harmless(path: str) -> str:
    """With the query that makes an allowed request fail, or end."""
    return f"{path}?from=nowhere" if path == "/api/events" else path


def cases_of(credential: Credential) -> Iterator[Case]:
    """Of devices and policies."""
    there = built()
    for address, right in LISTED.items():
        method, path = address.split(" ")
        for device in (DEVICE, CERTIFIED) if right == "identity" else (DEVICE,):
            target = filled(path, {**VALUES, "id": device, "device": device})
            segments = target.strip("/").split("/")
            words = [each if each in {device, MODULE} else each.lower() for each in segments]
            identity = ("devices", device, *(("modules", MODULE) if "/modules/" in path else ()))
            allowed = credential.may(right, words, identity) if normal(address) in there else None
            yield Case(credential, method, harmless(target), allowed, right)


def cases_of_person(credential: Credential) -> Iterator[Case]:
    """At the person's own devices and at others; a device that is not there is as another's."""
    there, many = built(), PEOPLE["many"]["addresses"]
    for address, right in LISTED.items():
        method, path = address.split(" ")
        of_administrators = "hub" if right in OF_ADMINISTRATORS else None
        need = right if right == "open" else PEOPLE["https"].get(address, of_administrators)
        for device in (DEVICE, OTHER, "no-such-device") if "{id}" in path else (DEVICE,):
            target = filled(path, {**VALUES, "id": device})
            named = device if "{id}" in path else ""
            allowed = credential.person_may(need, device=named, many=address in many)
            yield Case(credential, method, harmless(target), allowed if normal(address) in there else None, right)


def unlisted(credential: Credential) -> Iterator[Case]:
    """Verbs that no row has at this address, and addresses of no row."""
    listed = [(method, pattern(path)) for method, path in (each.split(" ") for each in LISTED)]
    targets = dict.fromkeys(filled(address.split(" ")[1], VALUES) for address in LISTED)
    for target in (*targets, *UNKNOWN):
        for verb in VERBS:
            if not any(verb == method and known.fullmatch(target) for method, known in listed):
                yield Case(credential, verb, target, None)


def fault(case: Case, answer: Answer) -> str:
    """What is wrong with an answer; empty for nothing."""
    status, code = answer.status, answer.headers.get("iothub-errorcode", "")
    shown = f"{case}: {status} {code}"
    if case.allowed is None:
        return "" if status in {404, 405} else f"{shown}, though no row has it"
    if case.allowed:
        return "" if status != 401 and (status < 500 or status == 501) else f"{shown}, though it may"
    credential = case.credential
    names = {"IotHubUnauthorizedAccess", "IotHubUnauthorized"} if credential.is_genuine else {"IotHubUnauthorized"}
    if (credential.is_policy or credential.role is not None) and case.right not in {
        "identity",
        "registrant",
        "enrolling",
    }:
        names = {"IotHubUnauthorizedAccess"}
    return "" if status == 401 and code in names else f"{shown}, though it may not"


def state(hub: HubInThread) -> str:
    """What the hub keeps, but for when somebody was seen last."""
    paths = ("/devices", f"/twins/{DEVICE}", f"/twins/{DEVICE}/modules/{MODULE}", "/configurations", "/jobs/v2/query")
    kept = [request(hub, "GET", f"{path}?{VERSION}").body for path in paths]
    return re.sub(r'"lastActivityTime": "[^"]*"', "", json.dumps(kept))


@pytest.mark.spec("S-14", "L-I4", "L-R7", "P-T06")
def test_every_credential_at_every_address(subjects: Subjects) -> None:
    cases = [
        case for each in subjects.all() for case in (cases_of_person(each) if each.role is not None else cases_of(each))
    ]
    random.Random(7).shuffle(cases)  # the same order each time
    before = state(subjects.hub)
    wrong = [text for case, answer in answers(subjects.hub, cases) if (text := fault(case, answer))]
    told(wrong, len(cases), 3000)
    assert state(subjects.hub) == before


@pytest.mark.spec("L-H5")
def test_verbs_and_addresses_of_no_row_are_nobodys(subjects: Subjects) -> None:
    whole = subjects.all()
    names = {"policy RR-RW-SC-DC", "policy RW-SC-DC", "device's token", "none", "person who is administrator"}
    some = [each for each in whole if each.name in names]
    assert len(some) == 4
    cases = [case for credential in some for case in unlisted(credential)]
    wrong = [text for case, answer in answers(subjects.hub, cases) if (text := fault(case, answer))]
    told(wrong, len(cases), 800)
