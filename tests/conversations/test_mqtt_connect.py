"""CONNECT and what it settles, by raw packets over TLS."""

import threading
import time
from base64 import b64decode
from itertools import pairwise

import pytest

from conversations.mqtt_peer import (
    DISCONNECT,
    PINGREQ,
    USER_NAME,
    MqttPeer,
    connect,
    eventually,
    packet,
    publish,
    subscribe,
    text,
    tls_socket,
)
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

ACCEPTED = (0x20, b"\0\0")


def key_of(connection_string: str) -> bytes:
    return b64decode(connection_string.rpartition("SharedAccessKey=")[2])


def attempt(hub: HubInThread, client_id: str, user_name: str | None, password: str | bytes | None) -> int | None:
    """The CONNACK code; None when the hub closed without one."""
    with MqttPeer(hub) as peer:
        peer.send(connect(client_id, user_name, password))
        answer = peer.read()
        if answer is None:
            return None
        assert answer[0] == 0x20
        if answer[1][1]:
            assert peer.is_closed()
        return answer[1][1]


@pytest.mark.spec("D-23", "D-E5", "D-ND2", "D-PY8")
@pytest.mark.parametrize(
    "form",
    [
        "{host}/{id}",
        "{host}/{id}/",
        "{host}/{id}/?api-version=2021-04-12",
        "{host}/{id}/api-version=2016-11-14",
        "{host}/{id}/?api-version=2020-09-30&model-id=dtmi:com:example:Thing;1&DeviceClientType=x%2F1",
        "{host}/{id}/?api-version=2021-04-12&DeviceClientType=py-azure-iot-device%2F2.14",
        "{host}/{id}/?DeviceClientType=a%20b&api-version=2018-06-30",
    ],
)
def test_every_form_of_user_name_is_the_same_identity(shared_hub: HubInThread, device_id: str, form: str) -> None:
    token = shared_hub.token(f"devices/{device_id}", key=key_of(shared_hub.create_device(device_id)))
    assert attempt(shared_hub, device_id, form.format(host=shared_hub.host_name, id=device_id), token) == 0


@pytest.mark.spec("D-24")
def test_a_client_id_other_than_the_user_names_is_refused(shared_hub: HubInThread, device_id: str) -> None:
    token = shared_hub.token(f"devices/{device_id}", key=key_of(shared_hub.create_device(device_id)))
    user_name = USER_NAME.format(host=shared_hub.host_name, client_id=device_id)
    assert attempt(shared_hub, f"{device_id}-other", user_name, token) == 5


@pytest.mark.spec("D-25")
@pytest.mark.parametrize("odd", ["a?b", "a#b", "a+b", "a%b", "a=b", "a:b", "a;b", "$a'(b)*!,@.", "a%2Fb"])
def test_odd_ids_connect_publish_and_subscribe(shared_hub: HubInThread, odd: str) -> None:
    key = key_of(shared_hub.create_device(odd))
    token = sas.make(f"{shared_hub.host_name}/devices/{odd.replace('%', '%25')}", key, int(time.time()) + 600)
    for password in (token, shared_hub.token(f"devices/{odd}", key=key)):
        with MqttPeer(shared_hub) as peer:
            peer.send(connect(odd, USER_NAME.format(host=shared_hub.host_name, client_id=odd), password))
            assert peer.read() == ACCEPTED
            peer.send(subscribe([(f"devices/{odd}/messages/devicebound/#", 1)]))
            assert peer.read() == (0x90, b"\0\1\1")
            peer.send(publish(f"devices/{odd}/messages/events/", packet_id=7))
            assert peer.read() == (0x40, b"\0\7")


@pytest.mark.spec("D-27", "L-I1", "L-M9")
def test_codes_of_refused_logins(shared_hub: HubInThread, device_id: str) -> None:
    hub, host = shared_hub, shared_hub.host_name
    key = key_of(hub.create_device(device_id))
    user_name = USER_NAME.format(host=host, client_id=device_id)
    good = hub.token(f"devices/{device_id}", key=key)
    late = hub.token(f"devices/{device_id}", key=key, seconds=-3600)
    expected = {
        "wrong key": (attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}", key=b"x" * 32)), 5),
        "expired": (attempt(hub, device_id, user_name, late), 5),
        "no password": (attempt(hub, device_id, user_name, None), 5),
        "an empty password": (attempt(hub, device_id, user_name, ""), 5),
        "no token": (attempt(hub, device_id, user_name, "secret"), 5),
        "no user name": (attempt(hub, device_id, None, None), 5),
        "unknown device": (
            attempt(
                hub, "nobody", USER_NAME.format(host=host, client_id="nobody"), hub.token("devices/nobody", key=key)
            ),
            5,
        ),
        "another hub": (attempt(hub, device_id, user_name, sas.make(f"x.test/devices/{device_id}", key, 2**31)), 5),
        "no client id": (attempt(hub, "", user_name, good), 2),
        "good": (attempt(hub, device_id, user_name, good), 0),
    }
    assert {name: got for name, (got, _) in expected.items()} == {name: want for name, (_, want) in expected.items()}


@pytest.mark.spec("L-M4")
def test_protocol_levels(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer(shared_hub) as peer:
        peer.send(connect(device_id, None, None, level=3))
        assert peer.read() == (0x20, b"\0\1")
        assert peer.is_closed()
    with MqttPeer(shared_hub) as peer:
        peer.send(connect(device_id, None, None, name="MQTX"))
        assert peer.is_closed()
    with MqttPeer(shared_hub) as peer:
        peer.send(connect(device_id, None, None, level=3, name="MQIsdp"))
        assert peer.read() == (0x20, b"\0\1")


@pytest.mark.spec("D-19", "D-20", "L-I4")
def test_tokens_of_others_do_not_open_a_device(shared_hub: HubInThread, device_id: str) -> None:
    hub = shared_hub
    hub.create_device(device_id)
    other = key_of(hub.create_device(f"{device_id}-2"))
    user_name = USER_NAME.format(host=hub.host_name, client_id=device_id)
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}-2", key=other)) == 5
    assert attempt(hub, device_id, user_name, hub.token(policy="service")) == 5
    assert attempt(hub, device_id, user_name, hub.token(policy="registryReadWrite")) == 5
    assert attempt(hub, device_id, user_name, hub.token(policy="device")) == 0
    assert attempt(hub, device_id, user_name, hub.token("devices", policy="device")) == 0
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}-2", policy="device")) == 5


@pytest.mark.spec("D-17")
def test_the_secondary_key_works_and_a_replaced_one_stops(shared_hub: HubInThread, device_id: str) -> None:
    hub = shared_hub
    first = key_of(hub.create_device(device_id))
    import msgspec  # the registry's own records, changed as an update would

    identities = hub.hub._identities
    stored = hub.ask(identities.get(device_id))
    user_name = USER_NAME.format(host=hub.host_name, client_id=device_id)
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}", key=stored.secondary_key)) == 0
    hub.ask(identities.update(msgspec.structs.replace(stored, primary_key=b"n" * 32), "*"))
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}", key=first)) == 5
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}", key=b"n" * 32)) == 0


@pytest.mark.spec("D-22", "L-I2")
def test_a_disabled_device_is_cut_and_refused(shared_hub: HubInThread, device_id: str) -> None:
    import msgspec

    hub = shared_hub
    key = key_of(hub.create_device(device_id))
    identities = hub.hub._identities
    with MqttPeer.logged_in(hub, device_id) as peer:
        stored = hub.ask(identities.get(device_id))
        hub.ask(identities.update(msgspec.structs.replace(stored, status="disabled"), "*"))
        assert peer.is_closed(1)
    user_name = USER_NAME.format(host=hub.host_name, client_id=device_id)
    assert attempt(hub, device_id, user_name, hub.token(f"devices/{device_id}", key=key)) == 3


@pytest.mark.spec("D-28", "L-M22")
def test_a_second_connection_takes_over(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as first, MqttPeer.logged_in(shared_hub, device_id) as second:
        assert first.is_closed()
        assert second.is_open()


@pytest.mark.spec("D-29", "L-M23")
def test_a_failed_login_leaves_the_live_connection_alone(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        user_name = USER_NAME.format(host=shared_hub.host_name, client_id=device_id)
        assert attempt(shared_hub, device_id, user_name, "SharedAccessSignature sr=x&sig=x&se=1") == 5
        assert peer.is_open()


@pytest.mark.spec("L-M24")
def test_takeovers_by_the_dozen_are_delayed() -> None:
    with HubInThread(limits={"takeovers": 2}) as hub:
        peers, times = [], []
        for _ in range(4):
            peers.append(MqttPeer.logged_in(hub, "twins"))
            times.append(time.monotonic())
        assert times[3] - times[2] > 0.8
        assert max(late - early for early, late in pairwise(times[:3])) < 0.8
        for peer in peers:
            peer.sock.close()


@pytest.mark.spec("D-30", "D-31")
def test_subscriptions_of_a_session_that_is_not_clean(shared_hub: HubInThread, device_id: str) -> None:
    for present in (0, 1, 1):
        with MqttPeer(shared_hub) as peer:
            peer.send(peer.login(device_id, clean=False))
            assert peer.read() == (0x20, bytes((present, 0)))
            if not present:
                peer.send(subscribe([(f"devices/{device_id}/messages/devicebound/#", 1)]))
                assert peer.read() == (0x90, b"\0\1\1")
    with MqttPeer(shared_hub) as peer:
        peer.send(peer.login(device_id, clean=True))
        assert peer.read() == ACCEPTED
    with MqttPeer(shared_hub) as peer:
        peer.send(peer.login(device_id, clean=False))
        assert peer.read() == ACCEPTED


@pytest.mark.spec("D-32", "L-M25")
def test_silence_ends_a_connection_and_pings_keep_it(device_id: str) -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, device_id, keep_alive=100) as peer:
        hub.clock.move(100)
        assert peer.is_open()
        hub.clock.move(100)
        assert peer.is_open()
        peer.send(PINGREQ[:1])  # half a packet is no sign of life
        hub.clock.move(151)
        assert peer.is_closed()


@pytest.mark.spec("D-33")
@pytest.mark.parametrize("keep_alive", [0, 1178, 65535])
def test_a_long_keep_alive_is_capped(device_id: str, keep_alive: int) -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, device_id, keep_alive=keep_alive) as peer:
        hub.clock.move(1760)
        assert peer.is_open()
        hub.clock.move(1770)
        assert peer.is_closed()


@pytest.mark.spec("D-21", "P-41")
def test_an_expired_token_ends_the_connection_after_its_grace() -> None:
    with HubInThread() as hub:
        key = key_of(hub.create_device("short"))
        with MqttPeer(hub) as peer:
            token = hub.token("devices/short", key=key, seconds=60)
            peer.send(connect("short", USER_NAME.format(host=hub.host_name, client_id="short"), token, keep_alive=1000))
            assert peer.read() == ACCEPTED
            hub.clock.move(350)
            assert peer.is_open()
            hub.clock.move(20)
            assert peer.is_closed()


@pytest.mark.spec("D-34", "L-M1", "L-M8")
def test_connect_comes_first_and_once(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer(shared_hub) as peer:
        peer.send(PINGREQ)
        assert peer.is_closed()
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(peer.login(device_id))
        assert peer.is_closed()


@pytest.mark.spec("D-35", "D-E6", "L-M10")
def test_what_follows_connect_at_once_is_taken_after_the_login(shared_hub: HubInThread, device_id: str) -> None:
    topic = f"devices/{device_id}/messages/events/"
    with MqttPeer(shared_hub) as peer:
        many = b"".join(publish(topic, b"%d" % number, packet_id=number) for number in range(1, 101))
        peer.send(peer.login(device_id) + many + publish(topic, b"last", qos=0) + DISCONNECT)
        assert peer.read() == ACCEPTED
        assert [peer.read() for _ in range(100)] == [(0x40, number.to_bytes(2)) for number in range(1, 101)]
        assert peer.is_closed()
    bodies = [event["body"] for event in shared_hub.wait_for_events(101, device=device_id)]
    assert bodies == [*map(str, range(1, 101)), "last"]


@pytest.mark.spec("D-11", "L-L4", "L-M2")
def test_whoever_does_not_connect_in_time_is_closed(device_id: str) -> None:
    with HubInThread() as hub, MqttPeer(hub) as silent, MqttPeer(hub) as slow:
        slow.send(slow.login(device_id)[:20])
        assert eventually(lambda: len(hub.hub.ports) > 0)
        hub.clock.move(31)
        assert silent.is_closed()
        assert slow.is_closed()


@pytest.mark.spec("D-36", "D-N19", "L-M21")
def test_a_will_is_telemetry_after_an_abrupt_end(shared_hub: HubInThread, device_id: str) -> None:
    topic = f"devices/{device_id}/messages/events/"
    will = (topic + "cause=power", b"gone", 1, True)
    with MqttPeer.logged_in(shared_hub, device_id, will=will) as peer:
        peer.send(DISCONNECT)
        assert peer.is_closed()
    with MqttPeer.logged_in(shared_hub, device_id, will=will):
        pass
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert event["body"] == "gone"
    assert event["properties"] == {"cause": "power", "iothub-MessageType": "Will", "mqtt-retain": "true"}
    for bad in (("devices/other/messages/events/", b"", 1, False), (topic, b"", 2, False), ("x", b"", 0, False)):
        with MqttPeer(shared_hub) as peer:
            peer.send(peer.login(device_id, will=bad))
            assert peer.read() == (0x20, b"\0\5")


MALFORMED = {
    "L-M2 a CONNECT of 70,000 bytes": packet(0x10, b"\0" * 70_000),
    "L-M3 five bytes of length": b"\x10\xff\xff\xff\xff\x01",
    "L-M5 a reserved connect flag": packet(0x10, text("MQTT") + b"\x04\x03\0\x3c" + text("a")),
    "L-M5 type 0": b"\0\0",
    "L-M5 type 15": b"\xf0\0",
    "L-M5 flags of CONNECT": b"\x11\x02\0\0",
    "L-M6 a client id that is no UTF-8": packet(0x10, text("MQTT") + b"\x04\x02\0\x3c" + text(b"\xff\xfe")),
    "L-M6 a length past the end": packet(0x10, text("MQTT") + b"\x04\x02\0\x3c" + b"\0\x20a"),
    "L-M6 U+0000": packet(0x10, text("MQTT") + b"\x04\x02\0\x3c" + text("a\0b")),
    "L-M7 bytes left over": packet(0x10, text("MQTT") + b"\x04\x02\0\x3c" + text("a") + b"more"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.spec("L-M2", "L-M3", "L-M5", "L-M6", "L-M7")
def test_malformed_connects_close_and_leave_the_hub_serving(shared_hub: HubInThread, device_id: str, name: str) -> None:
    with MqttPeer(shared_hub) as peer:
        peer.send(MALFORMED[name])
        assert peer.is_closed()
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        assert peer.is_open()


@pytest.mark.spec("D-2", "L-T1")
def test_plaintext_gets_no_protocol_answer(shared_hub: HubInThread) -> None:
    import socket

    for port, hello in ((8883, connect("a", None, None)), (5671, b"AMQP\0\1\0\0"), (443, b"GET / HTTP/1.1\r\n\r\n")):
        with socket.create_connection((shared_hub.address, port), 5) as plain:
            plain.sendall(hello)
            plain.settimeout(2)
            try:
                answer = plain.recv(100)
            except ConnectionError:
                answer = b""
            assert answer[:1] in {b"", b"\x15"}, "a TLS alert at most"


def test_many_logins_at_once(shared_hub: HubInThread) -> None:
    results: list[bool] = []

    def log_in(number: int) -> None:
        with MqttPeer.logged_in(shared_hub, f"crowd-{number}") as peer:
            results.append(peer.is_open())

    threads = [threading.Thread(target=log_in, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 50


@pytest.mark.spec("D-4", "D-3", "S-R23", "L-T11")
def test_tls_without_and_with_a_strangers_certificate(shared_hub: HubInThread, tmp_path: object) -> None:
    for port in (8883, 5671, 443):
        with tls_socket(shared_hub, port) as tls:
            names = dict(tls.getpeercert() or {})["subjectAltName"]
            assert ("IP Address", shared_hub.address) in names
