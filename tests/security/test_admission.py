"""Who holds places, tries keys, or sends without end (limits-and-faults L-L)."""

import contextlib
import json
import socket
import ssl
from base64 import b64decode
from itertools import pairwise

import pytest

from conversations.https_peer import VERSION, raw, request
from conversations.mqtt_peer import MqttPeer, connect, publish, subscribe, tls_socket
from hubkeep.connection.admission import Admission, FailedLogins, source_of
from hubkeep.limits import Limits
from hubkeep.testing import HubInThread, MovableClock


def never(_address: str) -> bool:
    return False


def test_sources_as_limits_count_them() -> None:
    assert source_of("127.0.0.1") == source_of("::1") == source_of("") == source_of("@unix") == ""
    assert source_of("::ffff:127.0.0.1") == ""
    assert source_of("::ffff:192.0.2.7") == source_of("192.0.2.7") == "192.0.2.7"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:2") != source_of("2001:db8:0:1::1")
    assert source_of("fe80::1%eth0") == "fe80::/64"


@pytest.mark.spec("L-L2")
def test_one_source_cannot_take_every_place() -> None:
    admission = Admission(Limits(unauthenticated=10, unauthenticated_per_source=3), 100, never)
    held = [admission.admit("192.0.2.1") for _ in range(4)]
    assert [each is not None for each in held] == [True, True, True, False]
    assert admission.admit("192.0.2.2") is not None
    assert held[0] is not None
    held[0].authenticated()
    assert admission.admit("192.0.2.1") is not None
    assert held[1] is not None
    held[1].gone()
    held[1].gone()
    assert admission.admit("192.0.2.1") is not None
    assert admission.admit("192.0.2.1") is None


@pytest.mark.spec("P-T41")
def test_handshakes_that_stall_keep_nobody_out(shared_hub: HubInThread) -> None:
    hello = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=shared_hub.host_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    content = hello.read()
    with contextlib.ExitStack() as stack:
        for number in range(150):
            stalled = stack.enter_context(socket.create_connection((shared_hub.address, 8883), 10))
            stalled.sendall(content[: len(content) // 2] if number % 2 else content)
        assert request(shared_hub, "GET", f"/devices?{VERSION}").status == 200


@pytest.mark.spec("L-L1")
def test_connections_in_all_are_bounded() -> None:
    admission = Admission(Limits(), 3, never)
    held = [admission.admit(f"192.0.2.{number}") for number in range(4)]
    assert [each is not None for each in held] == [True, True, True, False]
    assert admission.refused == 1
    assert held[0] is not None
    held[0].gone()
    assert admission.admit("192.0.2.9") is not None


@pytest.mark.spec("L-L8", "P-T05")
def test_a_source_that_fails_too_often_is_shut_out_for_a_minute() -> None:
    clock = MovableClock()
    failed = FailedLogins(Limits(), clock)
    for _ in range(20):
        failed.note("2001:db8::1")
    assert not failed.blocked("2001:db8::1")
    failed.note("2001:db8::abcd")
    assert failed.blocked("2001:db8::1")
    assert failed.blocked("2001:db8::2:2")
    assert not failed.blocked("2001:db8:0:1::1")
    clock.move(61)
    assert not failed.blocked("2001:db8::1")
    for _ in range(100):
        failed.note("127.0.0.1")
    assert not failed.blocked("127.0.0.1")


def test_what_is_watched_is_bounded() -> None:
    failed = FailedLogins(Limits(failed_logins=1), MovableClock())
    for number in range(25_000):
        address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
        failed.note(address)
        failed.note(address)
    assert len(failed._times) <= 10_000
    assert len(failed._blocked) <= 10_000


@pytest.mark.spec("L-L11")
def test_subscriptions_of_one_connection(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        for start in range(0, 50, 10):
            peer.send(subscribe([(f"$iothub/methods/POST/m{start + n}/#", 0) for n in range(10)]))
            assert peer.read() == (0x90, b"\0\1" + b"\0" * 10)
        peer.send(subscribe([("$iothub/methods/POST/one-more/#", 0)]))
        assert peer.is_closed()


@pytest.mark.spec("L-L10")
def test_topics_over_their_length_end_the_connection(shared_hub: HubInThread, device_id: str) -> None:
    base = f"devices/{device_id}/messages/events/"
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(publish(base + "a=" + "x" * (32_768 - len(base) - 2), b""))
        assert peer.read() == (0x40, b"\0\1")
        peer.send(publish(base + "a=" + "x" * (32_769 - len(base) - 2), b""))
        assert peer.is_closed()


@pytest.mark.spec("L-L12", "D-J7", "D-N9")
def test_thousands_of_publishes_in_flight_are_acknowledged_in_order(shared_hub: HubInThread, device_id: str) -> None:
    topic = f"devices/{device_id}/messages/events/"
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        for start in range(1, 10_001, 1000):
            peer.send(b"".join(publish(topic, b"x", packet_id=each) for each in range(start, start + 1000)))
        ids = [int.from_bytes((peer.read() or (0, b""))[1]) for _ in range(10_000)]
    assert all(late - early == 1 for early, late in pairwise(ids))


@pytest.mark.spec("L-L14", "D-33")
def test_a_keep_alive_of_none_is_capped_too() -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, "silent", keep_alive=0) as peer:
        hub.clock.move(1768)
        assert peer.is_closed()


@pytest.mark.spec("L-L25", "D-ND16")
def test_the_quota_of_identities_names_itself() -> None:
    with HubInThread(limits={"identities": 2}) as hub:
        put = [request(hub, "PUT", f"/devices/d{n}?{VERSION}", {"deviceId": f"d{n}"}) for n in range(2)]
        assert [each.status for each in put] == [200, 403]
        assert put[1].body["Message"].startswith("ErrorCode:IotHubQuotaExceeded;")


@pytest.mark.spec("L-L20", "L-R5", "P-T45")
def test_json_out_of_measure_is_refused_in_linear_time(shared_hub: HubInThread, device_id: str) -> None:
    path = f"/devices/{device_id}?{VERSION}"

    def nested(levels: int) -> bytes:
        return b'{"deviceId":"x","a":' + b"[" * levels + b"]" * levels + b"}"

    bad = [nested(32), b"[" * 900_000, b'{"a":' * 150_000, b"1" * 900_000, b'{"a":1e' + b"9" * 900_000 + b"}"]
    for body in bad:
        answer = request(shared_hub, "PUT", path, body)
        assert answer.status == 400, body[:20]
    assert request(shared_hub, "GET", path).status == 404


@pytest.mark.spec("D-J16", "D-ND13")
def test_bodies_in_chunks_and_module_paths(shared_hub: HubInThread, device_id: str) -> None:
    from hubkeep.model import Identity

    hub = shared_hub
    hub.create_device(device_id)
    hub.ask(
        hub.hub._identities._store.create(
            Identity(device_id=device_id, module_id="cam", primary_key=b"m" * 32, secondary_key=b"n" * 32)
        )
    )
    token = hub.token(f"devices/{device_id}/modules/cam", key=b"m" * 32)
    head = f"POST /devices/{device_id}/modules/cam/messages/events?{VERSION} HTTP/1.1\r\nHost: a\r\n"
    head += f"Authorization: {token}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = raw(hub, head.encode() + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 204")
    (event,) = hub.wait_for_events(1, device=device_id)
    assert (event["module"], event["body"]) == ("cam", "abcde")


@pytest.mark.spec("L-L19")
def test_a_body_that_trickles_is_given_up() -> None:
    """The grace is shortened by the module's own limits; ten seconds would be waited for otherwise."""
    with HubInThread() as hub:
        hub.create_device("slow")
        token = hub.token(policy="device")
        head = f"POST /devices/slow/messages/events HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n"
        with tls_socket(hub, 443) as tls:
            tls.sendall(f"{head}Content-Length: 1000\r\n\r\nx".encode())
            tls.settimeout(60)
            assert tls.recv(12) == b"HTTP/1.1 408"


@pytest.mark.spec("L-R2")
def test_a_large_batch_is_stored_whole_or_not_at_all(shared_hub: HubInThread, device_id: str) -> None:
    key = b64decode(shared_hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    token = shared_hub.token(f"devices/{device_id}", key=key)
    headers = {"Content-Type": "application/vnd.microsoft.iothub.json"}
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    good = [{"body": ""} for _ in range(2000)]
    bad = [*good, {"body": "", "properties": {"iothub-expiry": "no date"}}]
    assert request(shared_hub, "POST", path, json.dumps(bad).encode(), token=token, headers=headers).status == 400
    assert request(shared_hub, "POST", path, json.dumps(good).encode(), token=token, headers=headers).status == 204
    assert len(shared_hub.wait_for_events(2000, device=device_id, within=60)) == 2000
    with pytest.raises(TimeoutError):
        shared_hub.wait_for_events(2001, device=device_id, within=1)


def test_refusals_are_counted(shared_hub: HubInThread, device_id: str) -> None:
    import urllib.request

    def counted() -> float:
        text = urllib.request.urlopen(shared_hub.hub.endpoint("metrics") + "/metrics", timeout=30).read().decode()
        lines = [line for line in text.splitlines() if line.startswith('hubkeep_refusals_total{code="404000"}')]
        return float(lines[0].split()[1]) if lines else 0.0

    before = counted()
    for _ in range(30):
        assert request(shared_hub, "GET", f"/nothing/{device_id}", token="").status == 404
    assert counted() - before == 30


# -- by source, over real sockets: loopback is counted where a setting says so ---------------------------------------


def dialled(hub: HubInThread, source: str, port: int = 8883) -> socket.socket:
    """A TCP connection from this loopback address."""
    return socket.create_connection((hub.address, port), 30, source_address=(source, 0))


def secured(hub: HubInThread, raw: socket.socket) -> ssl.SSLSocket:
    raw.settimeout(60)
    return ssl.create_default_context(cafile=str(hub.trust_bundle)).wrap_socket(raw, server_hostname=hub.host_name)


def is_turned_away(raw: socket.socket) -> bool:
    """Closed at accept, before a byte of TLS."""
    raw.settimeout(60)
    try:
        return raw.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.spec("L-L7")
def test_a_source_that_connects_too_fast_waits_and_then_is_turned_away() -> None:
    limits = {"arrivals": 1, "arrivals_burst": 1}
    with (
        HubInThread(listeners={"count_loopback": True}, limits=limits) as hub,
        contextlib.ExitStack() as opened,
    ):
        many = [opened.enter_context(dialled(hub, "127.77.0.1")) for _ in range(8)]
        with secured(hub, dialled(hub, "127.77.0.2")):
            pass  # others are served at once, while that source waits for up to five seconds
        assert is_turned_away(many[-1])
        with secured(hub, many[0]), secured(hub, many[1]):
            pass
    with HubInThread(limits=limits) as hub, contextlib.ExitStack() as opened:
        for _ in range(8):
            opened.enter_context(secured(hub, dialled(hub, "127.77.0.1")))


@pytest.mark.spec("L-L2", "L-T6", "P-T41")
def test_a_handshake_under_way_takes_a_strangers_place() -> None:
    limits = {"unauthenticated_per_source": 3, "handshake_within": 2}
    with (
        HubInThread(listeners={"count_loopback": True}, limits=limits) as hub,
        contextlib.ExitStack() as opened,
    ):
        silent = [opened.enter_context(dialled(hub, "127.77.0.3")) for _ in range(3)]
        assert is_turned_away(opened.enter_context(dialled(hub, "127.77.0.3")))
        with secured(hub, dialled(hub, "127.77.0.4")):
            pass
        assert all(is_turned_away(each) for each in silent), "whoever says nothing leaves when its time is up"
        with secured(hub, dialled(hub, "127.77.0.3")):
            pass


@pytest.mark.spec("L-L6")
def test_the_largest_of_those_whom_nobody_knows_go_first() -> None:
    with HubInThread(limits={"unauthenticated_bytes": 100_000}) as hub, contextlib.ExitStack() as opened:
        small, large, middle = (opened.enter_context(MqttPeer(hub)) for _ in range(3))
        user_name = f"{hub.host_name}/held/?api-version=2021-04-12"
        whole = connect("held", user_name, "x" * 60_000)
        for peer, count in ((small, 20_000), (large, 58_000), (middle, 40_000)):
            peer.send(whole[:count])
        assert large.is_closed()
        with MqttPeer.logged_in(hub, "known") as known:
            assert known.is_open()
        for peer, count in ((small, 20_000), (middle, 40_000)):
            peer.send(whole[count:])
            assert peer.read() == (0x20, b"\0\5"), "who was not the largest is heard to the end"


@pytest.mark.explains("pair-locked-out")
@pytest.mark.spec("P-68", "P-T44")
def test_wrong_passwords_from_one_address_hinder_the_device_nowhere_else() -> None:
    with HubInThread(listeners={"count_loopback": True}) as hub:
        key = b64decode(hub.create_device("press").rpartition("SharedAccessKey=")[2])
        good = hub.token("devices/press", key=key)
        wrong = hub.token("devices/press", key=b"w" * 32)

        def log_in(source: str, token: str) -> tuple[int, bytes] | None:
            with MqttPeer(hub, secured(hub, dialled(hub, source))) as peer:
                peer.send(connect("press", f"{hub.host_name}/press/?api-version=2021-04-12", token))
                return peer.read()

        for _ in range(10):
            assert log_in("127.77.0.5", wrong) == (0x20, b"\0\5")
        assert log_in("127.77.0.5", good) == (0x20, b"\0\5")
        refusal = hub.refusals("press")[0]
        assert refusal.reason == "too many failed logins of this identity from this address"
        assert (refusal.cause, refusal.remedy) == ("pair-locked-out", "wait: see those before")
        assert log_in("127.77.0.6", good) == (0x20, b"\0\0")
        hub.clock.move(61)
        assert log_in("127.77.0.5", good) == (0x20, b"\0\0")
