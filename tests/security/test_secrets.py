"""No key, token or password in a log, a refusal, an answer, a metric, a text form, or a file that others can read."""

import logging
import re
import stat
import time
import urllib.request
from base64 import b64decode, b64encode

import pytest

from conversations.https_peer import VERSION, raw, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish
from hubkeep.cloud.audit import safe
from hubkeep.model import Identity, Permission, Policy
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def secrets_of(hub: HubInThread, device_id: str) -> tuple[bytes, str]:
    key = b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    return key, hub.token(f"devices/{device_id}", key=key)


@pytest.mark.spec("L-R9", "P-T03")
def test_what_was_presented_is_kept_without_the_secret(
    shared_hub: HubInThread, device_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every place where a client may put a key or a token by mistake."""
    hub, host = shared_hub, shared_hub.host_name
    key, token = secrets_of(hub, device_id)
    text = b64encode(key).decode()
    late = sas.make(f"{host}/devices/{device_id}", key, int(time.time()) - 9999)
    name = USER_NAME.format(host=host, client_id=device_id)
    hidden = [text, *(re.search("sig=([^&]+)", each)[1] for each in (token, late))]  # type: ignore[index]
    caplog.set_level(logging.DEBUG)
    logins = [
        (device_id, name, late),
        (device_id, name, text),
        (device_id, name, f"HostName={host};DeviceId={device_id};SharedAccessKey={text}"),
        (device_id, f"{host}/{token}", token),
        (text, f"{host}/{text}/", "x"),
        (device_id, text, token + "&sig=x"),
    ]
    for client_id, user_name, password in logins:
        with MqttPeer(hub) as peer:
            peer.send(connect(client_id, user_name, password))
            assert peer.read() in {(0x20, b"\0\5"), (0x20, b"\0\2"), None}
    answers = [
        request(hub, "POST", f"/devices/{device_id}/messages/events?sig={text}&{VERSION}", b"x", token=late),
        request(hub, "GET", f"/devices/{device_id}?{VERSION}", token=token),
        request(hub, "GET", f"/nothing/here?SharedAccessKey={text}", token=token),
        request(hub, "PUT", f"/devices/{device_id}?{VERSION}", f'{{"deviceId":"x","primaryKey":"{text}"'.encode()),
    ]
    with MqttPeer.logged_in(hub, device_id) as peer:
        peer.send(publish(f"devices/other/messages/events/key={text}"))
        assert peer.is_closed()
    records = "\n".join(str(each) for each in hub.refusals("", 200)) + caplog.text
    told = "\n".join(str(each) for each in answers)
    metrics = urllib.request.urlopen(hub.hub.endpoint("metrics") + "/metrics", timeout=30).read().decode()
    for secret in hidden:
        assert secret not in told
        assert secret not in metrics
        # an id is what refusals are found by: who uses a key as one has told it
        assert secret not in records.replace(f"identity='{text}'", "").replace(f"of {text} from", "")


def test_records_have_no_secret_in_their_text() -> None:
    identity = Identity(device_id="a", primary_key=b"k" * 32, secondary_key=b"l" * 32)
    policy = Policy(name="p", permissions=Permission.DEVICE_CONNECT, primary_key=b"k" * 32, secondary_key=b"l" * 32)
    token = sas.parse(sas.make("h/devices/a", b"k" * 32, 1))
    text = sas.parse_connection_string(f"HostName=h;SharedAccessKey={b64encode(b'k' * 32).decode()}")
    for each in (identity, policy, token, text):
        shown = f"{each!r} {each}"
        assert "kkkk" not in shown
        assert b64encode(b"k" * 32).decode()[:20] not in shown
        assert "signature" not in shown


@pytest.mark.spec("L-R8", "L-H6")
def test_names_from_peers_forge_no_line(
    shared_hub: HubInThread, device_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    forged = f"{device_id}\r\nrefused nothing\x1b[2J\u2028<script>'; DROP TABLE identity; --"
    with MqttPeer(shared_hub) as peer:
        peer.send(connect(forged, f"{shared_hub.host_name}/{forged}/?DeviceClientType=%0d%0aX", "x"))
        assert peer.read() == (0x20, b"\0\5")
    (refusal,) = [each for each in shared_hub.refusals("", 50) if device_id in each.identity]
    for text in (refusal.identity, refusal.reason, caplog.text.replace("\n", "")):
        assert not set("\r\n\x1b\u2028") & set(text)
    answer = raw(shared_hub, f"GET /devices/{device_id}%0d%0aX-Evil:1 HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 1)
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"x-evil" not in answer.lower()
    assert request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").status == 404
    assert safe("a\x00b" + "c" * 5000).startswith("a\\x00b")
    assert len(safe("c" * 5000)) <= 512


def test_files_with_keys_can_be_read_by_their_owner_alone() -> None:
    with HubInThread() as hub:
        for path in (hub.data / "admin", hub.data / "registry.db", *(hub.data / "keys").iterdir()):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        assert stat.S_IMODE((hub.data / "keys").stat().st_mode) == 0o700
        key, _ = secrets_of(hub, "sealed")
        hub.ask(hub.hub._refusals.flush())
        found = b"".join(path.read_bytes() for path in hub.data.glob("registry.db*"))
        assert key not in found
        assert b64encode(key) not in found


def test_nothing_is_allowed_across_origins(shared_hub: HubInThread) -> None:
    origin = {"Origin": "https://evil.test", "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        answer = request(shared_hub, method, f"/devices?{VERSION}", headers=origin)
        assert not [name for name in answer.headers if name.startswith("access-control")]
