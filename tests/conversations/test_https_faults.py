"""Bad requests, slow requests, and telemetry over HTTPS."""

import base64
import socket
import ssl
import time

import pytest

from conversations.https_peer import VERSION, Answer, raw, request
from conversations.mqtt_peer import MqttPeer, connect, packet, publish, tls_socket
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def status_of(answer: bytes) -> int | None:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else None


BAD_HEADS = {
    "L-H1 no request line": b"\x16\x03\x01 nonsense\r\n\r\n",
    "L-H1 both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "L-H1 two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "L-H1 obsolete folding": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "L-H1 a space before the colon": b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
    "L-H1 a bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n",
    "L-H6 NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
    "L-H2 a head over its limit": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 40_000 + b"\r\n\r\n",
    "L-H2 many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: b\r\n" % n for n in range(150)) + b"\r\n",
    "L-H2 a long address": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.spec("L-H1", "L-H2", "L-H6")
@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_heads(shared_hub: HubInThread, name: str) -> None:
    answer = raw(shared_hub, BAD_HEADS[name])
    assert status_of(answer) in ({414, 431, 400} if "L-H2" in name else {400}), answer[:200]
    assert request(shared_hub, "GET", f"/devices?{VERSION}").status == 200


@pytest.mark.spec("L-H3", "L-H4", "L-L18")
def test_bodies_over_their_limit(shared_hub: HubInThread, device_id: str) -> None:
    path = f"/devices/{device_id}?{VERSION}"
    assert request(shared_hub, "PUT", path, b"x" * (1024 * 1024 + 1)).status == 413
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {shared_hub.token()}\r\n".encode()
    promised = raw(shared_hub, head + b"Content-Length: 99999999999\r\n\r\n")
    assert status_of(promised) == 413
    chunks = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(17))
    assert status_of(raw(shared_hub, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) == 413
    assert request(shared_hub, "PUT", path, b"x", headers={"Content-Encoding": "gzip"}).status == 415


@pytest.mark.spec("L-H9")
def test_pipelined_requests_are_answered_in_order(shared_hub: HubInThread) -> None:
    one = f"GET /api/status HTTP/1.1\r\nHost: a\r\nAuthorization: {shared_hub.token()}\r\n"
    answer = raw(
        shared_hub, (f"{one}\r\n" + f"GET /x HTTP/1.1\r\nHost: a\r\n\r\n{one}Connection: close\r\n\r\n").encode()
    )
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200]


@pytest.mark.spec("L-L4")
def test_a_head_that_does_not_come_in_time() -> None:
    with HubInThread(limits={"http_head_within": 1}) as hub, tls_socket(hub, 443) as silent:
        silent.settimeout(5)
        assert silent.recv(100) == b""


def post(
    hub: HubInThread, device_id: str, body: object, headers: dict[str, str] | None = None, query: str = VERSION
) -> Answer:
    key = base64.b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    token = hub.token(f"devices/{device_id}", key=key)
    path = f"/devices/{device_id}/messages/events" + (f"?{query}" if query else "")
    return request(hub, "POST", path, body, token=token, headers=headers)


@pytest.mark.spec("D-101")
def test_one_message_with_all_its_headers(shared_hub: HubInThread, device_id: str) -> None:
    headers = {
        "IoTHub-App-Room": "a1",
        "iothub-app-city": "Zürich".encode().decode("latin-1"),
        "iothub-messageid": "m1",
        "IOTHUB-CORRELATIONID": "c1",
        "iothub-userid": "u1",
        "iothub-contenttype": "application/json",
        "iothub-contentencoding": "utf-8",
        "iothub-expiry": "2030-01-02T03:04:05Z",
        "iothub-creationtimeutc": "2026-01-01T00:00:00Z",
        "dt-subject": "sensor1",
        "Content-Type": "application/octet-stream",
    }
    answer = post(shared_hub, device_id, b'{"t":1}', headers)
    assert (answer.status, answer.body) == (204, b"")
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert event["properties"] == {"Room": "a1", "city": "Zürich"}
    assert event["body"] == '{"t":1}'
    system = event["system_properties"]
    assert (system["message_id"], system["correlation_id"], system["user_id"]) == ("m1", "c1", "dTE=")
    assert (system["content_type"], system["content_encoding"]) == ("application/json", "utf-8")
    assert system["absolute_expiry_time"] == 1893553445000
    assert event["annotations"]["dt-subject"] == "sensor1"
    assert event["annotations"]["iothub-creation-time-utc"] == "2026-01-01T00:00:00Z"


@pytest.mark.spec("D-102", "D-N16")
def test_batches(shared_hub: HubInThread, device_id: str) -> None:
    batch = {"Content-Type": "application/vnd.microsoft.iothub.json; charset=utf-8"}
    items = [
        {
            "body": base64.b64encode(b"\xff\x00one").decode(),
            "properties": {"iothub-app-room": "a1", "iothub-messageid": "m1"},
        },
        {"body": "plain text", "base64Encoded": False, "properties": {"iothub-app-n": 5, "own": True}},
        {"body": ""},
    ]
    assert post(shared_hub, device_id, items, batch).status == 204
    events = shared_hub.wait_for_events(3, device=device_id)
    assert [event.get("body", event.get("body_base64")) for event in events] == ["/wBvbmU=", "plain text", ""]
    assert [event["properties"] for event in events] == [{"room": "a1"}, {"n": "5", "own": "true"}, {}]
    for bad in (
        [],
        {},
        [{}],
        [{"body": 1}],
        [{"body": "%"}],
        [{"body": "", "properties": []}],
        [{"body": "", "base64Encoded": 1}],
    ):
        assert post(shared_hub, device_id, bad, batch).status == 400, bad
    too_large = [{"body": "x" * 200_000, "base64Encoded": False}, {"body": "y" * 200_000, "base64Encoded": False}]
    assert post(shared_hub, device_id, too_large, batch).status == 413
    assert post(shared_hub, device_id, b"x" * (256 * 1024 + 1)).status == 413
    assert post(shared_hub, device_id, b"last", query="").status == 204
    assert [event.get("body") for event in shared_hub.wait_for_events(4, device=device_id)][3] == "last"


@pytest.mark.spec("D-22", "L-I4")
def test_who_may_not_post(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    other = base64.b64decode(shared_hub.create_device(f"{device_id}-2").rpartition("SharedAccessKey=")[2])
    for token in ("", shared_hub.token(f"devices/{device_id}-2", key=other), shared_hub.token(policy="service")):
        answer = request(shared_hub, "POST", path, b"x", token=token)
        assert (answer.status, answer.code) == (401, "IotHubUnauthorized") if token == "" else answer.status == 401
    assert request(shared_hub, "POST", path, b"x", policy="device").status == 204
    put = request(
        shared_hub,
        "PUT",
        f"/devices/{device_id}?{VERSION}",
        {"deviceId": device_id, "status": "disabled"},
        headers={"If-Match": "*"},
    )
    assert put.status == 200
    assert request(shared_hub, "POST", path, b"x", policy="device").status == 401


# -- WebSockets ------------------------------------------------------------------------------------------------------


def upgraded(hub: HubInThread, path: str, subprotocol: str, extra: str = "") -> tuple[ssl.SSLSocket, bytes]:
    sock = tls_socket(hub, 443)
    sock.settimeout(5)
    key = base64.b64encode(b"k" * 16).decode()
    lines = f"GET {path} HTTP/1.1\r\nHost: {hub.host_name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    lines += f"Sec-WebSocket-Key: {key}\r\n"
    if "Sec-WebSocket-Version" not in extra:
        lines += "Sec-WebSocket-Version: 13\r\n"
    if subprotocol:
        lines += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    sock.sendall(f"{lines}{extra}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = sock.recv(1)
        if not chunk:
            break
        head += chunk
    return sock, head


def frame(
    payload: bytes, opcode: int = 2, *, final: bool = True, mask: bytes = b"\1\2\3\4", reserved: int = 0
) -> bytes:
    head = bytes(((0x80 if final else 0) | reserved | opcode,))
    size = len(payload)
    if size < 126:
        head += bytes((0x80 | size,))
    elif size < 65536:
        head += bytes((0xFE,)) + size.to_bytes(2)
    else:
        head += bytes((0xFF,)) + size.to_bytes(8)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def read_frame(sock: ssl.SSLSocket) -> tuple[int, bytes]:
    head = _exactly(sock, 2)
    size = head[1]
    if size == 126:
        size = int.from_bytes(_exactly(sock, 2))
    return head[0] & 15, _exactly(sock, size)


def _exactly(sock: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def login(hub: HubInThread, device_id: str) -> bytes:
    key = base64.b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    return connect(device_id, f"{hub.host_name}/{device_id}/", hub.token(f"devices/{device_id}", key=key))


@pytest.mark.spec("D-5", "D-6", "D-8", "D-10", "D-C1", "D-J1", "L-W2", "L-W5")
@pytest.mark.parametrize("subprotocol", ["mqtt", "MQTT", "x, mqtt", "mqttv3.1.1"])
def test_mqtt_in_a_websocket(shared_hub: HubInThread, device_id: str, subprotocol: str) -> None:
    extra = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    sock, head = upgraded(shared_hub, "/$iothub/websocket?iothub-no-client-cert=true", subprotocol, extra)
    with sock:
        assert head.startswith(b"HTTP/1.1 101")
        assert b"permessage-deflate" not in head
        assert f"Sec-WebSocket-Protocol: {subprotocol.rsplit(', ', maxsplit=1)[-1]}\r\n".encode() in head
        data = login(shared_hub, device_id) + publish(f"devices/{device_id}/messages/events/", b"ws", packet_id=3)
        for at in range(len(data) - 10):
            sock.sendall(frame(data[at : at + 1]))
        sock.sendall(frame(data[-10:-5], final=False) + frame(b"", 9) + frame(data[-5:], 0))
        assert read_frame(sock) == (10, b"")
        assert read_frame(sock) == (2, b"\x20\x02\0\0")
        assert read_frame(sock) == (2, b"\x40\x02\0\x03")
        sock.sendall(frame((1000).to_bytes(2), 8))
        assert read_frame(sock) == (8, (1000).to_bytes(2))
    assert shared_hub.wait_for_events(1, device=device_id)[0]["body"] == "ws"


@pytest.mark.spec("D-7", "S-117")
@pytest.mark.parametrize("path", ["/$iothub/websocket", "/$servicebus/websocket", "/$servicebus/websocket/", "/"])
def test_amqp_in_a_websocket(shared_hub: HubInThread, path: str) -> None:
    sock, head = upgraded(shared_hub, path, "AMQPWSB10")
    with sock:
        assert head.startswith(b"HTTP/1.1 101")
        sock.sendall(frame(b"AMQP\0\1\0\0"))
        assert read_frame(sock) == (2, b"AMQP\0\1\0\0")


@pytest.mark.spec("D-9", "L-W1")
@pytest.mark.parametrize(
    ("path", "subprotocol", "extra", "status"),
    [
        ("/$iothub/websocket", "", "", 400),
        ("/$iothub/websocket", "chat", "", 400),
        ("/elsewhere", "mqtt", "", 404),
        ("/$iothub/websocket", "mqtt", "Sec-WebSocket-Version: 8\r\n", 400),
        ("/$iothub/websocket", "mqtt", "Content-Length: 3\r\n", 400),
    ],
)
def test_upgrades_that_are_refused(
    shared_hub: HubInThread, path: str, subprotocol: str, extra: str, status: int
) -> None:
    sock, head = upgraded(shared_hub, path, subprotocol, extra)
    with sock:
        assert status_of(head) == status


BAD_FRAMES = {
    "L-W3 a reserved bit": (frame(b"x", reserved=0x40), 1002),
    "L-W3 unmasked": (b"\x82\x01x", 1002),
    "L-W3 a control frame of 126 bytes": (frame(b"x" * 126, 9), 1002),
    "L-W3 a control frame in parts": (frame(b"x", 9, final=False), 1002),
    "L-W3 an unknown opcode": (frame(b"x", 3), 1002),
    "L-W3 over the limit": (b"\x82\xff" + (400_000).to_bytes(8) + b"\0\0\0\0", 1009),
    "L-W3 a continuation of nothing": (frame(b"x", 0), 1002),
    "L-W4 text": (frame(b"x", 1), 1003),
    "L-W5 many empty frames": (frame(b"") * 200, 1008),
    "L-W5 many pings": (frame(b"", 9) * 50, 1008),
}


@pytest.mark.spec("L-W3", "L-W4", "L-W5")
@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames(shared_hub: HubInThread, name: str) -> None:
    data, code = BAD_FRAMES[name]
    sock, _ = upgraded(shared_hub, "/$iothub/websocket", "mqtt")
    with sock:
        sock.sendall(data)
        opcode, payload = read_frame(sock)
        while opcode == 10:
            opcode, payload = read_frame(sock)
        assert (opcode, int.from_bytes(payload[:2])) == (8, code)


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-1")
def test_tls_versions_and_suites(shared_hub: HubInThread) -> None:
    def version(low: ssl.TLSVersion, ciphers: str = "") -> str | None:
        context = ssl.create_default_context(cafile=str(shared_hub.trust_bundle))
        context.minimum_version = context.maximum_version = low
        if ciphers:
            context.set_ciphers(ciphers)
        try:
            with (
                socket.create_connection((shared_hub.address, 8883), 5) as plain,
                context.wrap_socket(plain, server_hostname=shared_hub.host_name) as tls,
            ):
                return tls.version()
        except (ssl.SSLError, ConnectionError):
            return None

    assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert version(ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES256-GCM-SHA384") == "TLSv1.2"
    assert version(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256") == "TLSv1.2"
    for weak in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA"):
        assert version(ssl.TLSVersion.TLSv1_2, weak) is None
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert version(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0") is None


@pytest.mark.spec("L-T6", "L-L3")
def test_a_handshake_that_does_not_end() -> None:
    with HubInThread(limits={"handshake_within": 1}) as hub, socket.create_connection((hub.address, 8883), 5) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00")
        started = time.monotonic()
        slow.settimeout(8)
        assert slow.recv(10) in {b"", b"\x15\x03\x01\x00\x02\x02\x50"}
        assert time.monotonic() - started < 8


@pytest.mark.spec("L-T13")
def test_resets_give_everything_back(shared_hub: HubInThread, device_id: str) -> None:
    import struct

    for data in (b"", packet(0x10, b"")[:1], login(shared_hub, device_id)):
        with tls_socket(shared_hub) as tls:
            tls.sendall(data)
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        assert peer.is_open()
    deadline = time.monotonic() + 5
    while request(shared_hub, "GET", "/api/status").body["connected"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert request(shared_hub, "GET", "/api/status").body["connected"] == 0
    assert sas.parse(shared_hub.token()).skn == "iothubowner"
