"""MQTT 5 over TLS: raw packets, and paho-mqtt as an unmodified client that speaks it."""

import contextlib
import queue
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties

from conversations.back_end import send
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, eventually, packet, text
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.mqtt import Properties, packets5
from hubkeep.wire.mqtt.fields import Fields
from hubkeep.wire.mqtt.properties import encode_properties

TELEMETRY = "devices/{}/messages/events/"


def connect5(
    hub: HubInThread, device_id: str, *, clean: bool = True, will: bytes = b"", password: str = "", **properties: Any
) -> bytes:
    """will: its properties, topic and payload."""
    key = b64decode(sas.parse_connection_string(hub.create_device(device_id)).parts["SharedAccessKey"])
    token = password or hub.token(f"devices/{device_id}", key=key)
    flags = 0xC0 | 2 * clean | (0x0C if will else 0)
    name = USER_NAME.format(host=hub.host_name, client_id=device_id)
    head = text("MQTT") + bytes((5, flags)) + b"\0\x3c" + encode_properties(**properties)
    return packet(0x10, head + text(device_id) + will + text(name) + text(token))


def said(answer: tuple[int, bytes] | None, first: int) -> tuple[int, dict[str, Any]]:
    """Reason code and properties of a CONNACK (behind its flags) or DISCONNECT."""
    assert answer is not None, "the hub closed in silence"
    assert answer[0] == first, answer
    body = answer[1][1:] if first == 0x20 else answer[1]
    return body[0], parsed(body[1:]) if len(body) > 1 else {}


def parsed(encoded: bytes) -> dict[str, Any]:
    """Properties of the hub's packets, which its own parser takes from no client."""
    from hubkeep.wire.mqtt import properties as table

    fields = Fields(encoded, 0, len(encoded))
    fields.varint()
    found: dict[str, Any] = {}
    while fields.at < fields.end:
        row = table._PROPERTIES[fields.uint8()]
        found[row.name] = table._READ[row.kind](fields)
    return found


@contextlib.contextmanager
def connected5(hub: HubInThread, device_id: str, **options: Any) -> Iterator[MqttPeer]:
    with MqttPeer(hub) as peer:
        peer.send(connect5(hub, device_id, **options))
        reason, _ = said(peer.read(), 0x20)
        assert reason == 0
        yield peer


def publish5(device_id: str, number: int, bag: str = "", body: bytes = b"x", **properties: Any) -> bytes:
    user = properties.pop("user", ())
    topic = (TELEMETRY.format(device_id) + bag).encode()
    return packets5.publish(topic, body, packet_id=number, properties=Properties(properties, user))


def test_the_connack_says_what_the_hub_offers(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer(shared_hub) as peer:
        peer.send(connect5(shared_hub, device_id))
        assert said(peer.read(), 0x20) == (
            0,
            {
                "receive_maximum": 256,
                "maximum_qos": 1,
                "maximum_packet_size": 262_144 + 32_768 + 4,
                "topic_alias_maximum": 10,
                "subscription_identifiers_available": 0,
                "shared_subscriptions_available": 0,
            },
        )


def test_properties_join_the_bag_of_the_topic(shared_hub: HubInThread, device_id: str) -> None:
    with connected5(shared_hub, device_id) as peer:
        peer.send(
            publish5(
                device_id, 1, "%24.mid=m1&a=bag", b"{}", user=(("a", "user"), ("b", "ü")),
                content_type="application/json", correlation_data=b"c-1", message_expiry=60,
            )
        )  # fmt: skip
        peer.send(publish5(device_id, 2, "%24.ct=text%2Fplain", content_type="application/json"))
        assert [peer.read(), peer.read()] == [(0x40, b"\0\1"), (0x40, b"\0\2")]
    first, second = shared_hub.wait_for_events(2, device=device_id)
    assert first["properties"] == {"a": "bag", "b": "ü"}
    system = first["system_properties"]
    assert (system["message_id"], system["content_type"], system["correlation_id"]) == ("m1", "application/json", "c-1")
    assert abs(system["absolute_expiry_time"] - first["enqueued"] - 60_000) < 30_000
    assert second["system_properties"]["content_type"] == "text/plain"


@pytest.mark.spec("L-M18")
def test_topic_aliases(shared_hub: HubInThread, device_id: str) -> None:
    topic = TELEMETRY.format(device_id).encode()
    with connected5(shared_hub, device_id) as peer:
        peer.send(packets5.publish(topic, b"0", packet_id=1, properties=Properties({"topic_alias": 10})))
        peer.send(packets5.publish(b"", b"1", packet_id=2, properties=Properties({"topic_alias": 10})))
        assert [peer.read(), peer.read()] == [(0x40, b"\0\1"), (0x40, b"\0\2")]
        peer.send(packets5.publish(b"", b"2", packet_id=3, properties=Properties({"topic_alias": 9})))
        assert said(peer.read(), 0xE0)[0] == 0x94
        assert peer.read() is None
    for alias in (0, 11):
        with connected5(shared_hub, device_id) as peer:
            peer.send(packets5.publish(topic, b"x", packet_id=1, properties=Properties({"topic_alias": alias})))
            assert said(peer.read(), 0xE0)[0] == 0x94
    assert [event["body"] for event in shared_hub.wait_for_events(2, device=device_id)] == ["0", "1"]


@pytest.mark.spec("L-M19")
def test_more_in_flight_than_receive_maximum(shared_hub: HubInThread, device_id: str) -> None:
    with connected5(shared_hub, device_id) as peer:
        peer.send(b"".join(publish5(device_id, number) for number in range(1, 2000)))
        while (answer := peer.read()) is not None and answer[0] == 0x40:
            continue
        assert said(answer, 0xE0)[0] == 0x93
        assert peer.read() is None


BROKEN: dict[str, tuple[Callable[[str], bytes], int]] = {
    "L-M12 too large": (lambda _: b"\x32\xff\xff\xff\x7f", 0x95),
    "L-M13 QoS 2": (lambda device: packet(0x34, text(TELEMETRY.format(device)) + b"\0\1\0x"), 0x9B),
    "L-M14 a foreign topic": (lambda _: publish5("somebody-else", 1), 0x90),
    "L-M14 an unknown $ topic": (lambda _: packet(0x30, text("$iothub/nothing") + b"\0x"), 0x90),
    "L-M15 a foreign filter": (lambda _: devicebound("somebody-else"), 0x8F),
    "L-M15 everything": (lambda _: packet(0x82, b"\0\1\0" + text("#") + b"\1"), 0x8F),
    "L-M8 second CONNECT": (lambda _: packet(0x10, text("MQTT") + b"\5\2\0\0\0" + text("d")), 0x82),
    "L-M3 a length in five bytes": (lambda _: b"\x32\x80\x80\x80\x80\x01", 0x81),
    "L-M11 PUBREC": (lambda _: b"\x50\2\0\1", 0x82),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_who_breaks_the_rules_is_told_why(shared_hub: HubInThread, device_id: str, name: str) -> None:
    broken, reason = BROKEN[name]
    with connected5(shared_hub, device_id) as peer:
        peer.send(publish5(device_id, 7) + broken(device_id))
        answers = [peer.read()]
        while answers[-1] is not None:
            answers.append(peer.read())
    assert said(answers[-2], 0xE0)[0] == reason
    assert shared_hub.wait_for_events(1, device=device_id)[0]["body"] == "x"


@pytest.mark.spec("L-M9")
def test_a_login_that_fails_has_its_reason(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    cases = {
        0x87: connect5(shared_hub, device_id, password="SharedAccessSignature sr=x&sig=y&se=1"),
        0x85: packet(0x10, text("MQTT") + b"\5\2\0\0\0" + text("")),
        0x81: packet(0x10, text("MQTT") + b"\5\3\0\0\0" + text("d")),
    }
    for reason, data in cases.items():
        with MqttPeer(shared_hub) as peer:
            peer.send(data)
            code, properties = said(peer.read(), 0x20)
            assert code == reason
            assert peer.read() is None
            if reason == 0x87:
                (refusal,) = shared_hub.refusals(device_id, 1)
                assert refusal.tracking_id in properties["reason_string"]
                assert refusal.reason not in properties["reason_string"]
    with MqttPeer(shared_hub) as peer:
        peer.send(connect5(shared_hub, device_id, authentication_method="SAS", authentication_data=b"x"))
        assert said(peer.read(), 0x20)[0] == 0x87


@pytest.mark.spec("L-M22")
def test_who_is_taken_over_is_told(shared_hub: HubInThread, device_id: str) -> None:
    with connected5(shared_hub, device_id) as first, connected5(shared_hub, device_id):
        assert said(first.read(), 0xE0)[0] == 0x8E
        assert first.read() is None


def test_who_is_disabled_is_told(shared_hub: HubInThread, device_id: str) -> None:
    with connected5(shared_hub, device_id) as peer:
        disabled = {"deviceId": device_id, "status": "disabled"}
        path = f"/devices/{device_id}?{VERSION}"
        assert request(shared_hub, "PUT", path, disabled, headers={"If-Match": "*"}).status == 200
        assert said(peer.read(), 0xE0)[0] == 0x98


@pytest.mark.spec("L-L11")
def test_filters_beyond_the_limit_are_answered() -> None:
    with HubInThread(limits={"subscriptions": 2}) as hub, connected5(hub, "many") as peer:
        filters = ("$iothub/twin/res/#", "$iothub/methods/POST/#", "devices/many/messages/devicebound/#")
        peer.send(packet(0x82, b"\0\1\0" + b"".join(text(each) + b"\1" for each in filters)))
        assert peer.read() == (0x90, b"\0\1\0\1\1\x97")
        peer.send(packet(0xA2, b"\0\2\0" + text(filters[0]) + text(filters[2])))
        assert peer.read() == (0xB0, b"\0\2\0\0\x11")


def devicebound(device_id: str) -> bytes:
    return packet(0x82, b"\0\1\0" + text(f"devices/{device_id}/messages/devicebound/#") + b"\1")


def wait_until_gone(hub: HubInThread, device_id: str) -> None:
    path = f"/devices/{device_id}?{VERSION}"
    assert eventually(lambda: request(hub, "GET", path).body["connectionState"] == "Disconnected", 10)


def test_sessions_end_when_the_client_said() -> None:
    with HubInThread() as hub:

        def present(**options: Any) -> int:
            with MqttPeer(hub) as peer:
                peer.send(connect5(hub, "s", **options))
                answer = peer.read()
                assert answer is not None
                peer.send(devicebound("s"))
                assert peer.read() == (0x90, b"\0\1\0\1")
                peer.send(b"\xe0\0")
                assert peer.read() is None
            wait_until_gone(hub, "s")  # from then on its session's time runs
            return answer[1][0]

        assert present(clean=False, session_expiry=100) == 0
        assert present(clean=False, session_expiry=100) == 1
        hub.clock.move(60)
        assert present(clean=False, session_expiry=100) == 1
        hub.clock.move(160)
        assert present(clean=False, session_expiry=100) == 0
        assert present(clean=True, session_expiry=100) == 0
        assert present(clean=False) == 1
        assert present(clean=False) == 0, "without an expiry a session ends with its connection"


def test_a_will_waits_for_its_delay_and_is_forgotten_when_the_client_is_back() -> None:
    with HubInThread() as hub:

        def will(name: str) -> bytes:
            properties = encode_properties((("k", "v"),), will_delay=30)
            return properties + text(TELEMETRY.format("w")) + text(name)

        for name in ("first", "second"):
            with connected5(hub, "w", clean=False, session_expiry=100, will=will(name)):
                pass
        with connected5(hub, "w", clean=False, session_expiry=100) as peer:
            peer.send(publish5("w", 1, body=b"back"))
            assert peer.read() == (0x40, b"\0\1")
            peer.send(b"\xe0\0")
        with connected5(hub, "w", clean=False, session_expiry=100, will=will("third")):
            pass
        wait_until_gone(hub, "w")
        hub.clock.move(31)
        events = hub.wait_for_events(2, device="w")
        assert [event["body"] for event in events] == ["back", "third"]
        assert events[1]["properties"] == {"k": "v", "iothub-MessageType": "Will"}
        with connected5(hub, "w", will=will("fourth")) as peer:
            peer.send(b"\xe0\1\4")  # DISCONNECT with will; its session ends now, and so does the delay
            assert peer.read() is None
        assert hub.wait_for_events(3, device="w")[2]["body"] == "fourth"


def test_messages_for_the_device_keep_to_what_the_client_takes(shared_hub: HubInThread, device_id: str) -> None:
    with connected5(shared_hub, device_id, receive_maximum=2, maximum_packet_size=400) as peer:
        peer.send(devicebound(device_id))
        assert peer.read() == (0x90, b"\0\1\0\1")
        send(shared_hub, device_id, b"y" * 500, iothub_ack="full")
        for number in range(3):
            send(shared_hub, device_id, b"%d" % number, content_type="text/plain", iothub_app_room="a1")
        first, second = peer.read(), peer.read()
        assert first is not None
        assert second is not None
        assert b"\x26" + text("room") + text("a1") in first[1]
        assert (first[1][-1:], second[1][-1:]) == (b"0", b"1")
        peer.send(b"\xc0\0")
        assert peer.read() == (0xD0, b"")  # and not the third: two are in flight
        topic = int.from_bytes(first[1][:2])
        peer.send(packet(0x40, first[1][2 + topic : 4 + topic]))
        third = peer.read()
        assert third is not None
        assert third[1][-1:] == b"2"


def test_paho_speaks_it(shared_hub: HubInThread, device_id: str) -> None:
    key = b64decode(sas.parse_connection_string(shared_hub.create_device(device_id)).parts["SharedAccessKey"])
    client = mqtt.Client(client_id=device_id, protocol=mqtt.MQTTv5)
    client.username_pw_set(
        USER_NAME.format(host=shared_hub.host_name, client_id=device_id),
        shared_hub.token(f"devices/{device_id}", key=key),
    )
    client.tls_set_context(ssl.create_default_context(cafile=str(shared_hub.trust_bundle)))
    seen: queue.Queue[Any] = queue.Queue()
    client.on_message = lambda _client, _data, message: seen.put(message)
    client.on_subscribe = lambda *arguments: seen.put([code.value for code in arguments[3]])
    lasting = PahoProperties(PacketTypes.CONNECT)
    lasting.SessionExpiryInterval = 3600
    client.connect(shared_hub.host_name, 8883, clean_start=False, properties=lasting)
    client.loop_start()
    client.subscribe(f"devices/{device_id}/messages/devicebound/#", 1)
    assert seen.get(timeout=10) == [1]
    properties = PahoProperties(PacketTypes.PUBLISH)
    properties.UserProperty = [("n", "1")]
    properties.ContentType = "application/json"
    client.publish(TELEMETRY.format(device_id), "{}", qos=1, properties=properties).wait_for_publish(10)
    send(shared_hub, device_id, b"open", iothub_app_room="a1")
    message = seen.get(timeout=10)
    assert (message.payload, message.properties.UserProperty) == (b"open", [("room", "a1")])
    client.disconnect()
    client.loop_stop()
    (event,) = shared_hub.wait_for_events(1, device=device_id)
    assert event["properties"] == {"n": "1"}
    assert event["system_properties"]["content_type"] == "application/json"
