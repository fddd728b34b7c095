"""After a broad exercise of the hub no secret is where it does not belong, in no form (provisioning-and-pki 5.7)."""

import contextlib
import logging
import re
import urllib.request
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest

from conversations.amqp_peer import AmqpPeer, data, events_token
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, raw, request
from conversations.mqtt_peer import MqttPeer, connect, publish, tls_socket
from hubkeep.connection.operations import OPERATIONS
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

# these answer with keys because that is what they are for
MEANT: Final = {
    "devices/list",
    "devices/get",
    "modules/list",
    "modules/get",
    "admin/identities",
    "admin/policies",
    "admin/policies/get",
}
NAMES: Final = {"id": "press", "device": "press", "module": "vision", "name": "plant", "job": "tune", "group": "line"}


class Exercised(NamedTuple):
    """secrets: by what they are. logged: everything that the hub wrote to its logs. answers: of whatever was asked."""

    hub: HubInThread
    secrets: Mapping[str, bytes]
    texts: Mapping[str, str]
    logged: str
    answers: list[str]


def forms(secret: bytes) -> Iterator[bytes]:
    """As it may stand somewhere."""
    text = b64encode(secret).decode()
    yield secret
    for each in (text, text.rstrip("="), urlsafe_b64encode(secret).decode(), quote(text, safe=""), secret.hex()):
        yield each.encode()
    yield secret.hex().upper().encode()


def found_in(content: bytes, exercised: Exercised, *, but: Iterable[str] = ()) -> list[str]:
    """The names of the secrets that stand in ``content``."""
    found = [name for name, secret in exercised.secrets.items() if any(each in content for each in forms(secret))]
    found += [name for name, text in exercised.texts.items() if text.encode() in content]
    return [each for each in found if each not in but]


@pytest.fixture(scope="module")
def exercised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exercised]:
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(self.format(record))

    handler, root = Keep(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        folder = tmp_path_factory.mktemp("hygiene")
        with HubInThread(folder / "data") as hub:
            secrets, texts, answers = exercise(hub, folder)
            hub.ask(hub.hub._refusals.flush())
            yield Exercised(hub, secrets, texts, "\n".join(records), answers)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def exercise(hub: HubInThread, folder: Path) -> tuple[dict[str, bytes], dict[str, str], list[str]]:
    secrets: dict[str, bytes] = {}
    answers: list[str] = []

    def ask(method: str, path: str, body: Any = None, **options: Any) -> Any:
        answer = request(hub, method, path, body, **options)
        answers.append(f"{answer.headers} {answer.body}")
        return answer

    def plant(name: str, keys: Mapping[str, Any]) -> None:
        secrets.update({f"{name} {slot}": b64decode(keys[f"{slot}Key"]) for slot in ("primary", "secondary")})

    def made(name: str, path: str, body: dict[str, Any]) -> None:
        answer = request(hub, "PUT", f"{path}?{VERSION}", body)
        assert answer.status == 200, answer
        plant(name, answer.body["authentication"]["symmetricKey"])

    made("device", "/devices/press", {"deviceId": "press"})
    made("other device", "/devices/other", {"deviceId": "other"})
    made("module", "/devices/press/modules/vision", {"deviceId": "press", "moduleId": "vision"})
    for policy in request(hub, "GET", "/api/policies").body:
        plant(f"policy {policy['name']}", policy)
    secrets["sealing key"] = (hub.data / "keys" / "sealing.key").read_bytes()
    _enrol(hub, secrets, ask)
    token = hub.token("devices/press", key=secrets["device primary"])
    wrong = hub.token("devices/press", key=secrets["other device primary"])
    late = sas.make(f"{hub.host_name}/devices/press", secrets["device secondary"], 1_500_000_000)
    owner, events = hub.token(policy="iothubowner"), events_token(hub)
    signed = {"token": token, "wrong token": wrong, "late token": late, "owner's token": owner, "events token": events}
    texts = {name: re.search("sig=([^&]+)", each)[1] for name, each in signed.items()}  # type: ignore[index]
    _devices(hub, folder, secrets, token, wrong, late)
    _back_ends(hub, ask, token, wrong, late, b64encode(secrets["device primary"]).decode())
    return secrets, texts, answers


def _enrol(hub: HubInThread, secrets: dict[str, bytes], ask: Any) -> None:
    """An enrolment group with keys of its own, for the provisioning service."""
    planted = {"primaryKey": b"the primary key of a whole line", "secondaryKey": b"the secondary key of a whole line"}
    keys = {name: b64encode(key).decode() for name, key in planted.items()}
    body = {"enrollmentGroupId": "line", "attestation": {"type": "symmetricKey", "symmetricKey": keys}}
    path = "/enrollmentGroups/line?api-version=2021-10-01"
    assert ask("PUT", path, body, policy="provisioningserviceowner").status == 200
    secrets |= {f"group {name}": key for name, key in planted.items()}


def _devices(hub: HubInThread, folder: Path, secrets: Mapping[str, bytes], token: str, wrong: str, late: str) -> None:
    user_name = f"{hub.host_name}/press/?api-version=2021-04-12"
    key = b64encode(secrets["device primary"]).decode()
    for password in (wrong, late, key, token + "&sig=x", f"HostName={hub.host_name};SharedAccessKey={key}"):
        with MqttPeer(hub) as peer:
            peer.send(connect("press", user_name, password))
            peer.read()
    with MqttPeer(hub) as peer:
        peer.send(connect("press", user_name, token))
        assert peer.read() == (0x20, b"\0\0")
        peer.send(publish("devices/press/messages/events/", b"good"))
        peer.read()
        peer.send(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"a":1}', qos=0))
        peer.send(publish("devices/other/messages/events/", b"bad"))
        assert peer.is_closed()
    with AmqpPeer(hub).opened().authorised(token) as amqp:
        amqp.attached("/devices/press/messages/events", handle=0)
        assert amqp.outcome(amqp.transfer(0, data(b"x"))) == ("accepted", "")
        amqp.put_token(wrong)
        amqp.put_token(key)
    with AmqpPeer(hub) as plain:
        plain.sasl("PLAIN", b"\0press@sas.hub\0" + wrong.encode())
    register(hub, "by-print", (certificate := Certificate.made("by-print")).sha256)
    for device_id in ("by-print", "press"):
        with MqttPeer(hub, tls_socket(hub, 8883, certificate.file(folder))) as peer:
            peer.send(connect(device_id, f"{hub.host_name}/{device_id}/?api-version=2021-04-12", None))
            peer.read()


def _back_ends(hub: HubInThread, ask: Any, token: str, wrong: str, late: str, key: str) -> None:
    telemetry = f"/devices/press/messages/events?{VERSION}"
    for credential in (token, wrong, late, key):
        ask("POST", telemetry, b"x", token=credential)
        ask("GET", f"/twins/press?{VERSION}", token=credential)
    ask("GET", f"/nothing?SharedAccessKey={key}&sig={quote(key, safe='')}")
    ask("PUT", f"/devices/bad?{VERSION}", {"deviceId": "bad", "authentication": {"symmetricKey": {"primaryKey": key}}})
    ask("PUT", f"/devices/press?{VERSION}", f'{{"deviceId":"press","primaryKey":"{key}"'.encode())
    ask("POST", f"/devices?{VERSION}", [{"id": "press", "importMode": "create", "authentication": {"key": key}}])
    ask("PATCH", f"/twins/press?{VERSION}", {"tags": {"hall": 3}}, headers={"If-Match": "*"})
    ask("POST", f"/devices/query?{VERSION}", {"query": "SELECT * FROM devices"})
    ask("POST", f"/devices/press/messages/devicebound?{VERSION}", b"hello")
    ask("POST", f"/twins/press/methods?{VERSION}", {"methodName": "reboot", "responseTimeoutInSeconds": 5})
    root = Certificate.made("plant root", ca=True)
    ask("PUT", "/api/cas/plant", {"certificate": root.pem, "isVerified": True})
    ask("PUT", "/api/access/plant", {"verdict": "block", "devices": ["other"], "reason": "stolen"})
    job = {
        "jobId": "tune",
        "type": "scheduleUpdateTwin",
        "queryCondition": "*",
        "updateTwin": {"etag": "*"},
    }
    ask("PUT", f"/jobs/v2/tune?{VERSION}", job)
    with contextlib.suppress(TimeoutError):
        hub.wait_for_events(1, within=5)


@pytest.mark.spec("P-66", "P-T39")
def test_no_secret_in_logs_refusals_metrics_and_answers(exercised: Exercised) -> None:
    hub = exercised.hub
    assert len(exercised.secrets) > 15
    assert found_in(exercised.logged.encode(), exercised) == []
    refusals = "\n".join(str(each) for each in hub.refusals("", 1000))
    assert "signature matches neither key" in refusals
    assert found_in(refusals.encode(), exercised) == []
    metrics = urllib.request.urlopen(hub.hub.endpoint("metrics") + "/metrics", timeout=30).read()
    assert found_in(metrics, exercised) == []
    assert found_in("\n".join(exercised.answers).encode(), exercised) == []


ENDLESS: Final = "admin/events"  # what it tells is telemetry
READ: Final = [
    each for each in OPERATIONS if each.surface == "https" and each.address.startswith("GET ") and each.name != ENDLESS
]


@pytest.mark.parametrize("operation", READ, ids=lambda each: each.name)
def test_what_can_be_read_holds_keys_only_where_that_is_meant(exercised: Exercised, operation: Any) -> None:
    path = re.sub(r"\{(\w+)\}", lambda name: NAMES.get(name[1], "press"), operation.address.split(" ", 1)[1])
    is_of_provisioning = operation.name.startswith(("enrolments", "groups", "registrations"))
    policy = "provisioningserviceowner" if is_of_provisioning else "iothubowner"
    query = f"{VERSION}&device=press&retire=primary&key=press"
    hub = exercised.hub
    head = f"GET {path}?{query} HTTP/1.1\r\nHost: {hub.host_name}\r\nAuthorization: {hub.token(policy=policy)}\r\n"
    found = found_in(raw(hub, f"{head}Connection: close\r\n\r\n".encode()), exercised)
    if operation.name not in MEANT:
        assert found == []


@pytest.mark.spec("P-T04")
def test_no_secret_in_the_databases_and_other_files_in_clear(exercised: Exercised) -> None:
    """The sealing key's own file and ``admin``, which the commands read, are for their owner alone."""
    data_files = [each for each in exercised.hub.data.rglob("*") if each.is_file() and each.parent.name != "keys"]
    assert {"registry.db", "events.db"} <= {each.name for each in data_files}
    for path in data_files:
        if path.name != "admin":
            assert (path.name, found_in(path.read_bytes(), exercised)) == (path.name, [])
