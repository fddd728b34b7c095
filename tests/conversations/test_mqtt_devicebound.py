"""Cloud-to-device messages over MQTT, by raw packets over TLS."""

import struct
import urllib.request
from pathlib import Path

import pytest

from conversations.back_end import feedback, purge, send, send_all, statuses
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import (
    DISCONNECT,
    USER_NAME,
    MqttPeer,
    connect,
    eventually,
    packet,
    publish,
    subscribe,
    unsubscribe,
)
from hubkeep.model import Identity
from hubkeep.testing import HubInThread


def listening(hub: HubInThread, device_id: str, qos: int = 1, *, clean: bool = True) -> MqttPeer:
    peer = MqttPeer.logged_in(hub, device_id, clean=clean)
    peer.send(subscribe([(f"devices/{device_id}/messages/devicebound/#", qos)]))
    assert peer.read() == (0x90, bytes((0, 1, qos)))
    return peer


def puback(packet_id: int) -> bytes:
    return packet(0x40, struct.pack(">H", packet_id))


def received(peer: MqttPeer, within: float = 5) -> tuple[str, bytes, int, bool]:
    """Topic, body, packet id (0 for QoS 0), DUP."""
    answer = peer.read(within)
    assert answer is not None, "the hub closed"
    first, body = answer
    assert first & 0xF0 == 0x30
    size = struct.unpack_from(">H", body)[0]
    topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
    packet_id = struct.unpack_from(">H", rest)[0] if first & 6 else 0
    return topic, rest[2:] if first & 6 else rest, packet_id, bool(first & 8)


def body_of(peer: MqttPeer) -> bytes:
    return received(peer)[1]


@pytest.mark.spec("D-56", "D-63", "D-ND5", "D-N4", "D-N5", "D-C6")
def test_the_topic_tells_every_property_in_the_form_that_all_clients_read(
    shared_hub: HubInThread, device_id: str
) -> None:
    with listening(shared_hub, device_id) as peer:
        answer = send(
            shared_hub,
            device_id,
            b"open valve",
            iothub_messageid="0b7e",
            iothub_correlationid="c9",
            iothub_userid="u1",
            iothub_contenttype="text/plain",
            iothub_contentencoding="utf-8",
            iothub_expiry="2040-01-01T00:00:00Z",
            iothub_creation_time_utc="2026-11-24T10:11:12.5Z",
            iothub_ack="full",
            iothub_app_room="4+5 a/b&c=d#%",
            iothub_app_empty="",
        )
        assert answer.status == 204
        topic, body, packet_id, dup = received(peer)
        assert topic == (
            f"devices/{device_id}/messages/devicebound/%24.mid=0b7e&%24.to=%2Fdevices%2F{device_id}%2Fmessages%2F"
            "devicebound&%24.cid=c9&%24.uid=u1&%24.ct=text%2Fplain&%24.ce=utf-8&%24.exp=2040-01-01T00%3A00%3A00.0000000Z"
            "&%24.ctime=2026-11-24T10%3A11%3A12.5000000Z&iothub-ack=full&room=4%2B5%20a%2Fb%26c%3Dd%23%25&empty="
        )
        assert (body, packet_id, dup) == (b"open valve", 1, False)


@pytest.mark.spec("D-56")
def test_a_message_without_any_property_still_has_a_bag(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        send_all(shared_hub, device_id, b"")
        topic, body, _, _ = received(peer)
        prefix, _, bag = topic.rpartition("/")
        assert prefix == f"devices/{device_id}/messages/devicebound"
        assert bag.startswith("%24.mid=")
        assert f"%24.to=%2Fdevices%2F{device_id}%2Fmessages%2Fdevicebound" in bag
        assert body == b""


@pytest.mark.spec("D-58", "D-62", "S-100")
def test_a_puback_completes_and_tells_the_back_end(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        for number in range(5):
            send_all(shared_hub, device_id, b"%d" % number, iothub_ack="full", iothub_messageid=f"m{number}")
        messages = [received(peer) for _ in range(5)]
        assert [body for _, body, _, _ in messages] == [b"0", b"1", b"2", b"3", b"4"]
        peer.send(b"".join(puback(packet_id) for _, _, packet_id, _ in messages))
        told = feedback(shared_hub, device_id, 5)
    assert {each["originalMessageId"]: each["statusCode"] for each in told} == dict.fromkeys(
        ("m0", "m1", "m2", "m3", "m4"), "Success"
    )
    assert all(each["description"] == "Success" and each["deviceGenerationId"].isdigit() for each in told)
    with listening(shared_hub, device_id) as peer:
        assert peer.is_open(), "nothing came again"


@pytest.mark.spec("D-59")
def test_qos_0_completes_at_send(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id, 0) as peer:
        send_all(shared_hub, device_id, b"once", iothub_ack="positive", iothub_messageid="m")
        assert received(peer)[1:] == (b"once", 0, False)
        assert statuses(shared_hub, device_id, 1) == {"m": "Success"}
    with listening(shared_hub, device_id, 1) as peer:
        assert peer.is_open()


@pytest.mark.spec("D-60", "D-64", "L-D7")
@pytest.mark.parametrize("farewell", [DISCONNECT, b""], ids=["disconnect", "dropped"])
def test_what_was_not_acknowledged_comes_again(shared_hub: HubInThread, device_id: str, farewell: bytes) -> None:
    with listening(shared_hub, device_id) as peer:
        send_all(shared_hub, device_id, b"1", b"2", b"3")
        assert [body_of(peer) for _ in range(3)] == [b"1", b"2", b"3"]
        peer.send(puback(2) + farewell)
        assert peer.is_closed() if farewell else peer.is_open()
    with listening(shared_hub, device_id) as peer:
        again = [received(peer) for _ in range(2)]
        assert [(body, dup) for _, body, _, dup in again] == [(b"1", True), (b"3", True)]


@pytest.mark.spec("L-M22")
def test_a_takeover_hands_what_was_in_flight_to_the_new_connection(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id, clean=False) as old:
        send_all(shared_hub, device_id, b"1", b"2")
        assert [body_of(old) for _ in range(2)] == [b"1", b"2"]
        with MqttPeer(shared_hub) as new:
            new.send(new.login(device_id, clean=False))
            assert new.read() == (0x20, b"\1\0")
            assert [received(new)[1::2] for _ in range(2)] == [(b"1", True), (b"2", True)]
            assert old.is_closed()


@pytest.mark.spec("D-61", "D-PY2", "D-ND1")
def test_messages_for_an_absent_device_wait_for_its_stored_subscription(
    shared_hub: HubInThread, device_id: str
) -> None:
    with listening(shared_hub, device_id, clean=False):
        pass
    send_all(shared_hub, device_id, b"1", b"2")
    with MqttPeer.logged_in(shared_hub, device_id, clean=False) as peer:
        assert [body_of(peer) for _ in range(2)] == [b"1", b"2"]


def test_messages_before_the_first_subscription_are_kept(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    send_all(shared_hub, device_id, b"early")
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        assert peer.is_open(), "nothing is sent without a subscription"
    with listening(shared_hub, device_id) as peer:
        assert received(peer)[1::2] == (b"early", False)


@pytest.mark.spec("D-54")
def test_an_unsubscribed_device_hears_nothing_more(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id, clean=False) as peer:
        peer.send(unsubscribe([f"devices/{device_id}/messages/devicebound/#", "never/subscribed"]))
        assert peer.read() == (0xB0, b"\0\1")
        send_all(shared_hub, device_id, b"x")
        assert peer.is_open()
    with MqttPeer.logged_in(shared_hub, device_id, clean=False) as peer:
        assert peer.is_open()


def test_requests_behind_a_subscribe_wait_for_its_suback(shared_hub: HubInThread, device_id: str) -> None:
    """What a SUBACK grants a persistent session is on disk first; the order on the wire stays."""
    topic_filter = f"devices/{device_id}/messages/devicebound/#"
    with MqttPeer.logged_in(shared_hub, device_id, clean=False) as peer:
        telemetry = publish(f"devices/{device_id}/messages/events/", packet_id=7)
        peer.send(subscribe([(topic_filter, 1)], 2) + unsubscribe([topic_filter], 3) + telemetry + b"\xc0\0")
        assert peer.read() == (0x90, b"\0\2\1")
        assert peer.read() == (0xB0, b"\0\3")
        assert sorted(filter(None, (peer.read(), peer.read()))) == [(0x40, b"\0\7"), (0xD0, b"")]


def metric(hub: HubInThread, name: str) -> float:
    with urllib.request.urlopen(f"{hub.hub.endpoint('metrics')}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


@pytest.mark.spec("L-M17")
def test_a_puback_for_nothing_is_ignored(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        send_all(shared_hub, device_id, b"1")
        assert received(peer)[2] == 1
        before = metric(shared_hub, "hubkeep_stray_acknowledgements_total")
        peer.send(puback(2) + puback(65535) + puback(1) + puback(1))
        assert peer.is_open()
        assert metric(shared_hub, "hubkeep_stray_acknowledgements_total") == before + 3
        send_all(shared_hub, device_id, b"2")
        assert body_of(peer) == b"2"


def test_only_some_messages_are_in_flight_at_once(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        send_all(shared_hub, device_id, *(b"%d" % each for each in range(20)))
        first = [received(peer) for _ in range(16)]
        assert peer.is_open(), "the seventeenth waits"
        peer.send(puback(first[0][2]) + puback(first[1][2]))
        assert [body_of(peer) for _ in range(2)] == [b"16", b"17"]
        assert peer.is_open()


def test_large_messages_wait_for_each_other(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id) as peer:
        send_all(shared_hub, device_id, *(bytes((48 + each,)) * 60_000 for each in range(8)))
        for number in range(8):
            _, body, packet_id, _ = received(peer)
            assert body == bytes((48 + number,)) * 60_000
            peer.send(puback(packet_id))


@pytest.mark.spec("D-55", "D-J2", "D-Q16")
def test_a_module_has_a_queue_of_its_own(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    key = b"k" * 32
    module = Identity(device_id=device_id, module_id="cam", generation_id="1", primary_key=key, secondary_key=key)
    shared_hub.ask(shared_hub.hub._identities._store.create(module))
    assert send(shared_hub, device_id, module="none").code == "ModuleNotFound"
    assert send(shared_hub, device_id, b"for the device").status == 204
    assert send(shared_hub, device_id, b"for the module", module="cam").status == 204
    with MqttPeer(shared_hub) as peer:
        token = shared_hub.token(f"devices/{device_id}/modules/cam", key=key)
        client_id = f"{device_id}/cam"
        peer.send(connect(client_id, USER_NAME.format(host=shared_hub.host_name, client_id=client_id), token))
        assert peer.read() == (0x20, b"\0\0")
        peer.send(subscribe([(f"devices/{device_id}/modules/cam/messages/devicebound/#", 1)]))
        assert peer.read() == (0x90, b"\0\1\1")
        topic, body, _, _ = received(peer)
        assert topic.startswith(f"devices/{device_id}/modules/cam/messages/devicebound/%24.mid=")
        assert body == b"for the module"
        assert peer.is_open()


@pytest.mark.spec("L-L22")
def test_a_lock_lapses_and_the_message_comes_again(device_id: str) -> None:
    with HubInThread() as hub, listening(hub, device_id) as peer:
        send_all(hub, device_id, b"slow")
        _, _, packet_id, dup = received(peer)
        assert not dup
        hub.clock.move(59)
        assert peer.is_open()
        hub.clock.move(2)
        assert received(peer)[1:] == (b"slow", packet_id, True)
        peer.send(puback(packet_id))
        assert eventually(lambda: purge(hub, device_id).body["totalMessagesPurged"] == 0)


def test_an_expired_message_is_not_sent(device_id: str) -> None:
    with HubInThread() as hub:
        hub.create_device(device_id)
        send_all(hub, device_id, b"old", iothub_ack="negative", iothub_messageid="old")
        hub.clock.move(3601)
        send_all(hub, device_id, b"new")
        with listening(hub, device_id) as peer:
            assert body_of(peer) == b"new"
        assert statuses(hub, device_id, 1) == {"old": "Expired"}


@pytest.mark.spec("L-S1", "L-R3")
def test_queue_and_subscription_outlive_the_hub(tmp_path: Path, device_id: str) -> None:
    data = tmp_path / "data"
    with HubInThread(data) as hub, listening(hub, device_id, clean=False) as peer:
        send_all(hub, device_id, b"1", b"2")
        assert [body_of(peer) for _ in range(2)] == [b"1", b"2"]
        peer.send(puback(1))
        assert eventually(lambda: cloud_to_device_count(hub, device_id) == 1)
    with HubInThread(data) as hub:
        send_all(hub, device_id, b"3")
        with MqttPeer(hub) as peer:
            peer.send(peer.login(device_id, clean=False))
            assert peer.read() == (0x20, b"\1\0")
            assert [received(peer)[1::2] for _ in range(2)] == [(b"2", True), (b"3", False)]


def cloud_to_device_count(hub: HubInThread, device_id: str) -> int:
    count: int = request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["cloudToDeviceMessageCount"]
    return count


def test_a_disabled_device_keeps_its_queue(shared_hub: HubInThread, device_id: str) -> None:
    with listening(shared_hub, device_id, clean=False) as peer:
        device = request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").body
        path = f"/devices/{device_id}?{VERSION}"
        answer = request(shared_hub, "PUT", path, {**device, "status": "disabled"}, headers={"If-Match": "*"})
        assert answer.status == 200
        assert peer.is_closed()
    send_all(shared_hub, device_id, b"kept")
    answer = request(shared_hub, "PUT", path, {**device, "status": "enabled"}, headers={"If-Match": "*"})
    assert answer.status == 200
    with MqttPeer.logged_in(shared_hub, device_id, clean=False) as peer:
        assert body_of(peer) == b"kept"


@pytest.mark.spec("L-R2")
def test_a_refused_subscribe_changes_nothing(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id, clean=False) as peer:
        peer.send(subscribe([(f"devices/{device_id}/messages/devicebound/#", 1), ("devices/other/#", 1)]))
        assert peer.is_closed()
    with MqttPeer(shared_hub) as peer:
        peer.send(peer.login(device_id, clean=False))
        assert peer.read() == (0x20, b"\0\0")
