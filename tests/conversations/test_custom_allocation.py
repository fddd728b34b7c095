"""Custom allocation: a real HTTPS server is asked, and its good and bad answers reach the device."""

import hmac
import http.server
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from conversations.certificates import Certificate
from conversations.https_peer import VERSION, Answer, request
from conversations.provisioning_peer import (
    DEVICE_VERSION,
    derived,
    enrol,
    enrol_group,
    outcome,
    register,
    service,
    token,
)
from hubkeep.testing import HubInThread
from hubkeep.testing.hub_in_thread import free_address

PRIMARY, SECRET = b"p" * 32, b"known at both ends"
SOUTH, FAR = "south.hub.test", "far.hub.test"
Reply = tuple[int, bytes]


class Webhook:
    """An HTTPS server on loopback. answer: what is asked to status and content."""

    def __init__(self, identity: Path) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[Any], Reply] = lambda asked: (500, b"")
        self.released = threading.Event()
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.asked.append((dict(self.headers.items()), body))
                status, content = webhook.answer(json.loads(body))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/allocate?from=hub"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    folder = tmp_path_factory.mktemp("webhook")
    root = Certificate.made("webhook root", ca=True)
    (folder / "roots.pem").write_text(root.pem)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = Webhook(Certificate.made("webhook", issuer=root, extensions=[address]).file(folder))
    made.roots = folder / "roots.pem"  # type: ignore[attr-defined]
    yield made
    made.released.set()
    made.server.shutdown()
    made.server.server_close()


def settings(webhook: Webhook, folder: Path, own: str, **more: Any) -> dict[str, Any]:
    for name, content in (("secret", SECRET), ("authorization", b"Bearer of-the-hub")):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return {
        "hubs": [{"host_name": own}, {"host_name": SOUTH}],
        "webhook_roots": webhook.roots,  # type: ignore[attr-defined]
        "webhook_secret_file": folder / "secret",
        "webhook_authorization_file": folder / "authorization",
        **more,
    }


@pytest.fixture(scope="module")
def hub(webhook: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubInThread]:
    own, folder = free_address(), tmp_path_factory.mktemp("hub-secrets")
    wanted = settings(webhook, folder, own, answer_at_once=True)
    egress = {"allow": ["127.0.0.1"]}
    with HubInThread(address=own, host_names=(own, SOUTH, FAR), egress=egress, provisioning=wanted) as running:
        yield running


def custom(webhook: Webhook) -> dict[str, Any]:
    asked = {"webhookUrl": webhook.url, "apiVersion": "2019-03-31"}
    return {"allocationPolicy": "custom", "customAllocationDefinition": asked}


def chosen(hub: str, **more: Any) -> Callable[[Any], Reply]:
    return lambda _asked: (200, json.dumps({"iotHubHostName": hub, **more}).encode())


def device_id_at(hub: HubInThread, device_id: str) -> int:
    return request(hub, "GET", f"/devices/{device_id}?{VERSION}").status


def test_a_good_answer_is_obeyed(hub: HubInThread, webhook: Webhook, device_id: str) -> None:
    group = f"g-{device_id}"
    enrol_group(hub, group, initialTwin={"tags": {"line": "A"}}, **custom(webhook))
    start = {"tags": {"line": "B"}, "properties": {"desired": {"rate": 5}}}
    webhook.answer = chosen(SOUTH.upper(), initialTwin=start, payload={"hello": "TX-9"})
    key = derived(hub, group, device_id)
    webhook.asked.clear()
    state = outcome(register(hub, device_id, key, {"payload": {"model": "TX-9"}}))
    assert (state["status"], state["assignedHub"], state["payload"]) == ("assigned", SOUTH, {"hello": "TX-9"})
    twin = request(hub, "GET", f"/twins/{device_id}?{VERSION}").body
    assert (twin["tags"], twin["properties"]["desired"]["rate"]) == ({"line": "B"}, 5)
    ((headers, body),) = webhook.asked
    asked = json.loads(body)
    assert asked["enrollmentGroup"]["enrollmentGroupId"] == group
    assert asked["enrollmentGroup"]["attestation"] == {"type": "symmetricKey"}
    assert asked["deviceRuntimeContext"] == {
        "registrationId": device_id,
        "symmetricKey": {},
        "payload": {"model": "TX-9"},
    }
    assert asked["linkedHubs"] == [hub.host_name, SOUTH]
    assert b"Key" not in body.replace(b'"symmetricKey"', b"")
    at, _, signed = headers["X-Hubkeep-Signature"].removeprefix("t=").partition(",v1=")
    assert signed == hmac.new(SECRET, f"{at}.".encode() + body, sha256).hexdigest()
    assert abs(int(at) - hub.clock.now()) < 60
    assert headers["Authorization"] == "Bearer of-the-hub"
    webhook.answer = chosen(hub.host_name)
    moved = outcome(register(hub, device_id, key, version="api-version=2021-06-01"))
    assert (moved["assignedHub"], moved["substatus"]) == (hub.host_name, "deviceDataMigrated")
    context = json.loads(webhook.asked[-1][1])["deviceRuntimeContext"]
    assert (context["currentIotHubHostName"], context["currentDeviceId"]) == (SOUTH, device_id)


def refused_answers(webhook: Webhook) -> dict[str, Callable[[Any], Reply]]:
    def late(_asked: Any) -> Reply:
        webhook.released.wait(30)
        return (200, b"{}")

    return {
        "another status": lambda asked: (503, json.dumps({"iotHubHostName": SOUTH}).encode()),
        "a redirect": lambda asked: (302, b""),
        "no JSON": lambda asked: (200, b"{"),
        "no hub": lambda asked: (200, b"{}"),
        "a hub that is not linked": chosen(FAR),
        "a hub that nobody knows": chosen("hub.attacker.test"),
        "65 KB": chosen(SOUTH, payload="x" * 65_536),
        "a twin that nobody takes": chosen(SOUTH, initialTwin={"tags": {"a.b": 1}}),
        "no answer in time": late,
    }


@pytest.mark.spec("P-32", "P-T50")
def test_any_other_answer_fails_the_registration(hub: HubInThread, webhook: Webhook, device_id: str) -> None:
    test_a_good_answer_is_obeyed(hub, webhook, f"good-{device_id}")
    enrol(hub, device_id, **custom(webhook))
    for what, answer in refused_answers(webhook).items():
        webhook.answer = answer
        state = outcome(register(hub, device_id, PRIMARY))
        assert (state["status"], state["errorCode"]) == ("failed", 400207), what
        assert "assignedHub" not in state
        assert hub.refusals(device_id)[0].reason, what
    assert device_id_at(hub, device_id) == 404
    # an address that egress does not open: nothing is asked
    before = len(webhook.asked)
    for closed in ("https://127.0.0.2:1/", "https://10.1.2.3/", "https://169.254.169.254/latest"):
        definition = {"customAllocationDefinition": {"webhookUrl": closed}, "allocationPolicy": "custom"}
        enrol(hub, device_id, if_match="*", **definition)
        assert outcome(register(hub, device_id, PRIMARY))["errorCode"] == 400207
        assert "not reached" in hub.refusals(device_id)[0].reason
    assert len(webhook.asked) == before


def test_an_address_that_is_no_webhook_is_not_stored(hub: HubInThread, device_id: str) -> None:
    body = {"registrationId": device_id, "attestation": {"type": "symmetricKey"}, "allocationPolicy": "custom"}
    for url in ("http://127.0.0.1/", "https://user:key@127.0.0.1/", "ftp://a/", "https://a/#b", "https://", "x"):
        definition = {"customAllocationDefinition": {"webhookUrl": url}}
        assert service(hub, "PUT", f"/enrollments/{device_id}", body | definition).status == 400, url
    assert service(hub, "PUT", f"/enrollments/{device_id}", body).status == 400


def poll(hub: HubInThread, device_id: str, operation_id: str) -> Answer:
    path = f"/{hub.id_scope}/registrations/{device_id}/operations/{operation_id}?{DEVICE_VERSION}"
    return request(hub, "GET", path, token=token(hub, device_id, PRIMARY))


def ended(hub: HubInThread, device_id: str, operation_id: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while (answer := poll(hub, device_id, operation_id)).status == 202:
        assert answer.body["status"] == "assigning"
        assert time.monotonic() < until
        time.sleep(0.05)
        hub.clock.move(3)
    return outcome(answer)


def test_a_device_waits_while_the_webhook_thinks(webhook: Webhook, tmp_path: Path) -> None:
    own, going = free_address(), threading.Event()

    def slow(asked: Any) -> Reply:
        going.wait(4)
        return chosen(SOUTH, payload=asked["deviceRuntimeContext"].get("payload"))(asked)

    wanted = settings(webhook, tmp_path, own, retry_after=7)
    egress = {"allow": ["127.0.0.1"]}
    with HubInThread(address=own, host_names=(own, SOUTH), egress=egress, provisioning=wanted) as hub:
        enrol(hub, "press-07", **custom(webhook))
        webhook.answer = slow
        answer = register(hub, "press-07", PRIMARY, {"payload": 1})
        assert (answer.status, answer.headers["retry-after"]) == (202, "7")
        operation = answer.body["operationId"]
        assert register(hub, "press-07", PRIMARY, {"payload": 1}).body["operationId"] == operation  # the same
        assert poll(hub, "press-07", operation).body == {"operationId": operation, "status": "assigning"}
        other = register(hub, "press-07", PRIMARY, {"payload": 2}).body["operationId"]
        assert other != operation  # it lost the first answer
        going.set()
        assert ended(hub, "press-07", other)["payload"] == 2
        hub.clock.move(61)
        until = time.monotonic() + 30
        while poll(hub, "press-07", operation).status == 202:
            assert time.monotonic() < until
            time.sleep(0.2)
            hub.clock.move(3)
        assert outcome(poll(hub, "press-07", operation))["errorCode"] == 400207


def test_what_a_hub_that_died_left_open_ends_as_failed(webhook: Webhook, tmp_path: Path) -> None:
    own, secrets = free_address(), tmp_path / "secrets"
    secrets.mkdir()
    wanted = settings(webhook, secrets, own)
    more: Any = {"host_names": (own, SOUTH), "egress": {"allow": ["127.0.0.1"]}, "provisioning": wanted}
    going = threading.Event()

    def silent(asked: Any) -> Reply:
        going.wait(20)
        return chosen(SOUTH)(asked)

    with HubInThread(tmp_path / "data", own, **more) as first:
        enrol(first, "press-07", **custom(webhook))
        webhook.answer = silent
        operation = register(first, "press-07", PRIMARY).body["operationId"]
    with HubInThread(tmp_path / "data", own, **more) as second:
        state = ended(second, "press-07", operation)
        assert (state["status"], state["errorCode"]) == ("failed", 400207)
        assert device_id_at(second, "press-07") == 404
        webhook.answer = chosen(SOUTH)
        again = register(second, "press-07", PRIMARY).body["operationId"]
        assert ended(second, "press-07", again)["assignedHub"] == SOUTH
    going.set()
