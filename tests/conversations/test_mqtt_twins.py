"""A device's own twin over MQTT, by raw packets: topics, statuses, order, limits."""

import json
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import DISCONNECT, MqttPeer, connect, eventually, publish, subscribe, unsubscribe
from hubkeep.testing import HubInThread

RESPONSES, DESIRED = "$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"
GET, REPORT = "$iothub/twin/GET/?$rid=", "$iothub/twin/PATCH/properties/reported/?$rid="


def device(hub: HubInThread, device_id: str, *filters: str, clean: bool = True) -> MqttPeer:
    peer = MqttPeer.logged_in(hub, device_id, clean=clean)
    if filters:
        peer.send(subscribe([(each, 1) for each in filters]))
        assert peer.read() == (0x90, b"\0\1" + b"\1" * len(filters))
    return peer


def said(packet: tuple[int, bytes] | None) -> tuple[str, bytes]:
    """Topic and body of a publish with QoS 0 that is not retained."""
    assert packet is not None
    first, body = packet
    assert first == 0x30
    (size,) = struct.unpack_from(">H", body)
    return body[2 : 2 + size].decode(), body[2 + size :]


def ask(peer: MqttPeer, topic: str, body: bytes = b"") -> tuple[str, bytes]:
    peer.send(publish(topic, body, qos=0))
    return said(peer.read())


def report(peer: MqttPeer, value: Any, rid: str = "1") -> str:
    """The topic of the answer."""
    return ask(peer, REPORT + rid, json.dumps(value).encode())[0]


def service_twin(hub: HubInThread, device_id: str) -> Any:
    return request(hub, "GET", f"/twins/{device_id}?{VERSION}").body


def set_desired(hub: HubInThread, device_id: str, value: Any, method: str = "PATCH") -> Any:
    answer = request(hub, method, f"/twins/{device_id}?{VERSION}", {"properties": {"desired": value}})
    assert answer.status == 200, answer
    return answer.body


@pytest.mark.spec("D-71")
@pytest.mark.parametrize("body", [b"", b" ", b"anything"])
def test_a_device_reads_its_twin(shared_hub: HubInThread, device_id: str, body: bytes) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        request(shared_hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"tags": {"not": "shown"}})
        set_desired(shared_hub, device_id, {"interval": 30, "fan": {"on": True}})
        topic, answer = ask(peer, GET + "a-b_c%20~", body)
    assert topic == "$iothub/twin/res/200/?$rid=a-b_c%20~"
    assert json.loads(answer) == {
        "desired": {"interval": 30, "fan": {"on": True}, "$version": 2},
        "reported": {"$version": 1},
    }


@pytest.mark.spec("D-72", "S-56")
def test_a_device_reports(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        assert ask(peer, REPORT + "7", b'{"fw":"1.2.0","old":1}') == ("$iothub/twin/res/204/?$rid=7&$version=2", b"")
        assert ask(peer, REPORT + "8", b'{"old":null,"net":{"ip":"10.0.0.1"}}')[0].endswith("$rid=8&$version=3")
        assert ask(peer, REPORT + "9", b"{}")[0].endswith("$rid=9&$version=4")  # D-Q11
        reported = json.loads(ask(peer, GET + "2")[1])["reported"]
    assert reported == {"fw": "1.2.0", "net": {"ip": "10.0.0.1"}, "$version": 4}
    twin = service_twin(shared_hub, device_id)
    assert twin["version"] == 5
    assert twin["etag"] == "AAAAAAAAAAE="  # the etag is of tags and desired properties
    metadata = twin["properties"]["reported"]["$metadata"]
    assert set(metadata) == {"$lastUpdated", "fw", "net"}
    assert set(metadata["net"]) == {"$lastUpdated", "ip"}
    assert metadata["fw"]["$lastUpdated"] < metadata["net"]["ip"]["$lastUpdated"]


@pytest.mark.spec("D-73", "L-D3")
def test_a_report_for_another_version_is_refused(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        assert report(peer, {"a": 1}, "1&$version=1").endswith("204/?$rid=1&$version=2")
        before = service_twin(shared_hub, device_id)
        for stale in ("1", "3", "99999999999999999999", "x", ""):
            topic, body = ask(peer, f"{REPORT}2&$version={stale}", b'{"a":2}')
            status = "412" if stale in {"1", "3"} else "400"
            assert topic == f"$iothub/twin/res/{status}/?$rid=2"
            assert json.loads(body)["errorCode"] == {"412": 412001, "400": 400004}[status]
        assert service_twin(shared_hub, device_id)["properties"] == before["properties"]
        assert report(peer, {"a": 3}, "3&$version=2").endswith("204/?$rid=3&$version=3")


@pytest.mark.spec("D-74", "D-79", "L-D1", "L-D2")
def test_a_report_that_breaks_a_rule_changes_nothing(shared_hub: HubInThread, device_id: str) -> None:
    deep: Any = 1
    for _ in range(11):
        deep = {"k": deep}
    bodies = [
        b"",
        b"x",
        b"[]",
        b'"text"',
        b"null",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1}{}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"[" * 100_000,
        *(
            json.dumps(each).encode()
            for each in (
                deep,
                {"a.b": 1},
                {"$a": 1},
                {"a b": 1},
                {"a\x01": 1},
                {"k" * 1025: 1},
                {"k": "x" * 4097},
                {"k": 2**52},
                {"k": -(2**52) - 1},
                {"k": [None]},
                {f"k{n}": "x" * 4090 for n in range(9)},
            )
        ),
    ]
    with device(shared_hub, device_id, RESPONSES) as peer:
        report(peer, {"good": 1})
        before = service_twin(shared_hub, device_id)["properties"]
        for number, body in enumerate(bodies):
            topic, answer = ask(peer, f"{REPORT}{number}", body)
            assert topic == f"$iothub/twin/res/400/?$rid={number}", body[:40]
            error = json.loads(answer)
            assert set(error) == {"errorCode", "trackingId", "message", "timestampUtc"}
            assert error["errorCode"] in {400004, 400006}
        assert service_twin(shared_hub, device_id)["properties"] == before
        assert report(peer, {"good": 2}).endswith("$version=3")
    refusal = shared_hub.refusals(error["trackingId"].split("-")[0])[0]
    assert (refusal.identity, refusal.surface) == (device_id, "mqtt")


@pytest.mark.spec("L-L21")
def test_the_size_of_each_section(shared_hub: HubInThread, device_id: str) -> None:
    def sized(size: int) -> dict[str, str]:
        full = {f"{n:02}": "x" * 4094 for n in range(size // 4096)}
        last = size - 4096 * len(full)
        return full | ({"z" * min(last, 2): "x" * (last - 2)} if last else {})

    path = f"/twins/{device_id}?{VERSION}"
    with device(shared_hub, device_id, RESPONSES) as peer:
        for size, status in ((32768, "204"), (32780, "400")):
            assert report(peer, sized(size)).startswith(f"$iothub/twin/res/{status}/"), size
        for size, code in ((32768, 200), (32780, 400)):
            answer = request(shared_hub, "PUT", path, {"properties": {"desired": sized(size)}})
            assert answer.status == code, size
        for size, code in ((8192, 200), (8200, 400)):
            assert request(shared_hub, "PUT", path, {"tags": sized(size)}).status == code, size
        reported = json.loads(ask(peer, GET + "1")[1])["reported"]
    assert sum(len(key) + len(value) for key, value in reported.items() if key != "$version") == 32768


@pytest.mark.spec("D-76")
def test_desired_patches_are_pushed(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, DESIRED) as peer:
        set_desired(shared_hub, device_id, {"interval": 60, "fan": {"on": True}})
        topic, body = said(peer.read())
        assert topic == "$iothub/twin/PATCH/properties/desired/?$version=2"
        assert json.loads(body) == {"interval": 60, "fan": {"on": True}, "$version": 2}
        set_desired(shared_hub, device_id, {"interval": None, "absent": None, "$version": 77})
        assert json.loads(said(peer.read())[1]) == {"interval": None, "absent": None, "$version": 3}
        request(shared_hub, "PATCH", f"/twins/{device_id}?{VERSION}", {"tags": {"for": "the service alone"}})
        set_desired(shared_hub, device_id, {"fan": {"speed": 2}}, "PUT")
        topic, body = said(peer.read())
        assert topic.endswith("?$version=4")
        assert json.loads(body) == {"fan": {"speed": 2, "on": None}, "$version": 4}


@pytest.mark.spec("D-77")
def test_pushes_stop_and_go_on_with_the_subscription(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, DESIRED, RESPONSES, clean=False) as peer:
        peer.send(unsubscribe([DESIRED]))
        assert peer.read() == (0xB0, b"\0\1")
        set_desired(shared_hub, device_id, {"n": 1})
        assert peer.is_open()  # a PINGRESP and nothing before it
        peer.send(subscribe([(DESIRED, 0)], 2))
        assert peer.read() == (0x90, b"\0\2\0")
        set_desired(shared_hub, device_id, {"n": 2})
        assert said(peer.read())[0].endswith("?$version=3")
        peer.send(DISCONNECT)
        assert peer.is_closed()
    set_desired(shared_hub, device_id, {"n": 3})
    with MqttPeer(shared_hub) as peer:
        peer.send(peer.login(device_id, clean=False))
        assert peer.read() == (0x20, b"\1\0")
        set_desired(shared_hub, device_id, {"n": 4})
        # what was missed is not repeated; the stored subscription is live at once
        assert said(peer.read())[0].endswith("?$version=5")
        assert json.loads(ask(peer, GET + "1")[1])["desired"] == {"n": 4, "$version": 5}


@pytest.mark.spec("D-78")
def test_nothing_is_answered_without_the_subscription(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id) as peer:
        peer.send(publish(REPORT + "1", b'{"a":1}', qos=1, packet_id=5))
        assert peer.read() == (0x40, b"\0\5")
        peer.send(publish(GET + "1", qos=1, packet_id=6))
        assert peer.read() == (0x40, b"\0\6")
        assert peer.is_open()
    assert service_twin(shared_hub, device_id)["properties"]["reported"]["a"] == 1


def test_a_report_without_rid_is_applied_and_not_answered(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        peer.send(publish("$iothub/twin/PATCH/properties/reported/", b'{"a":1}', packet_id=3))
        assert peer.read() == (0x40, b"\0\3")
        peer.send(publish("$iothub/twin/GET/", packet_id=4))
        assert peer.read() == (0x40, b"\0\4")
        assert json.loads(ask(peer, GET + "1")[1])["reported"] == {"a": 1, "$version": 2}


def test_acknowledgements_keep_the_order_of_the_publishes(shared_hub: HubInThread, device_id: str) -> None:
    telemetry = f"devices/{device_id}/messages/events/"
    with device(shared_hub, device_id) as peer:
        chunk = b""
        for number in range(1, 61, 3):
            chunk += publish(telemetry, packet_id=number)
            chunk += publish(REPORT + "1", b'{"n":%d}' % number, packet_id=number + 1)
            chunk += publish(GET + "1", packet_id=number + 2)
        peer.send(chunk)
        assert [peer.read() for _ in range(60)] == [(0x40, struct.pack(">H", each)) for each in range(1, 61)]
    assert service_twin(shared_hub, device_id)["properties"]["reported"]["n"] == 58


def test_what_was_sent_before_the_disconnect_is_carried_out(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id) as peer:
        peer.send(publish(REPORT + "1", b'{"last":"words"}', qos=0) + DISCONNECT)
        assert peer.is_closed()
    assert eventually(lambda: service_twin(shared_hub, device_id)["properties"]["reported"].get("last") == "words")


def test_a_device_reads_what_it_wrote(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        for number in range(20):
            peer.send(publish(REPORT + "p", b'{"n":%d}' % number, qos=0) + publish(GET + "g", b" ", qos=0))
            assert said(peer.read())[0].startswith("$iothub/twin/res/204/")
            assert json.loads(said(peer.read())[1])["reported"]["n"] == number


@pytest.mark.spec("L-D4")
def test_changes_from_many_sides_all_apply(shared_hub: HubInThread, device_id: str) -> None:
    rounds = 15
    with device(shared_hub, device_id, RESPONSES, DESIRED) as peer:
        writers = [
            threading.Thread(
                target=lambda name=name: [set_desired(shared_hub, device_id, {name: n}) for n in range(rounds)]
            )
            for name in ("a", "b", "c")
        ]
        for each in writers:
            each.start()
        for number in range(rounds):
            peer.send(publish(f"{REPORT}{number}", json.dumps({f"r{number}": number}).encode(), qos=0))
        packets = [said(peer.read()) for _ in range(4 * rounds)]
        for each in writers:
            each.join()
    reports = [topic for topic, _ in packets if "/res/" in topic]
    assert reports == [f"$iothub/twin/res/204/?$rid={n}&$version={n + 2}" for n in range(rounds)]
    versions = [json.loads(body)["$version"] for topic, body in packets if "/PATCH/" in topic]
    assert versions == list(range(2, 2 + 3 * rounds))
    twin = service_twin(shared_hub, device_id)
    assert twin["version"] == 2 + 4 * rounds
    assert {name: twin["properties"]["desired"][name] for name in "abc"} == dict.fromkeys("abc", rounds - 1)
    assert all(twin["properties"]["reported"][f"r{n}"] == n for n in range(rounds))


@pytest.mark.spec("D-75")
def test_too_many_requests_at_once_are_told_so_and_the_link_stays(device_id: str) -> None:
    with HubInThread(limits={"twin_requests": 5}) as hub, device(hub, device_id, RESPONSES) as peer:
        peer.send(b"".join(publish(f"{REPORT}{n}", b'{"a":1}', qos=0) for n in range(50)))
        topics = [said(peer.read())[0] for _ in range(50)]
        statuses = {topic.split("/")[3] for topic in topics}
        assert statuses == {"204", "429"}
        # each request is answered once, whatever the answer
        assert len({topic.partition("$rid=")[2].partition("&")[0] for topic in topics}) == 50
        assert peer.is_open()
        applied = sum(topic.split("/")[3] == "204" for topic in topics)
        assert service_twin(hub, device_id)["properties"]["reported"]["$version"] == 1 + applied


def test_any_number_of_requests_in_one_write_is_answered(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        requests = [publish(f"{GET}{n}", qos=0) for n in range(1000)]
        # what others have to say meanwhile has its turn, and so has what stands between and behind the requests
        peer.send(b"".join([*requests[:500], subscribe([(DESIRED, 1)], 7), *requests[500:]]))
        packets = [packet for _ in range(1001) if (packet := peer.read()) is not None]
        assert packets.count((0x90, b"\0\7\1")) == 1
        topics = [said(packet)[0] for packet in packets if packet[0] == 0x30]
        assert {topic.partition("$rid=")[2] for topic in topics} == {str(n) for n in range(1000)}
        assert peer.is_open()


@pytest.mark.spec("L-M14")
@pytest.mark.parametrize(
    "topic",
    [
        "$iothub/twin/POST/?$rid=1",
        "$iothub/twin/res/200/?$rid=1",
        "$iothub/twin/PATCH/properties/desired/?$rid=1",
        "$iothub/twin/",
        "$iothub/other",
        "$SYS/broker",
        "$",
    ],
)
def test_other_topics_end_the_link(shared_hub: HubInThread, device_id: str, topic: str) -> None:
    with device(shared_hub, device_id, RESPONSES) as peer:
        before = service_twin(shared_hub, device_id)
        peer.send(publish(topic, b'{"a":1}'))
        assert peer.is_closed()
    assert service_twin(shared_hub, device_id)["properties"] == before["properties"]


def test_the_model_of_the_connection_shows_in_the_twin(shared_hub: HubInThread, device_id: str) -> None:
    with MqttPeer(shared_hub) as peer:
        good = peer.login(device_id)
        plain = f"{shared_hub.host_name}/{device_id}/?api-version=2021-04-12"
        key = good[good.rindex(b"SharedAccessSignature") :]
        peer.send(connect(device_id, plain + "&model-id=dtmi:com:example:Thermo;1", key))
        assert peer.read() == (0x20, b"\0\0")
        assert service_twin(shared_hub, device_id)["modelId"] == "dtmi:com:example:Thermo;1"


@pytest.mark.spec("L-I2", "L-I3", "L-R6")
def test_a_device_that_is_disabled_or_deleted_hears_no_more(shared_hub: HubInThread, device_id: str) -> None:
    with device(shared_hub, device_id, DESIRED) as peer:
        path = f"/devices/{device_id}?{VERSION}"
        body = {"deviceId": device_id, "status": "disabled"}
        assert request(shared_hub, "PUT", path, body, headers={"If-Match": "*"}).status == 200
        set_desired(shared_hub, device_id, {"secret": 1})
        assert peer.is_closed()


def test_a_device_that_does_not_read_its_patches_is_let_go(device_id: str) -> None:
    """Nothing is skipped and nothing is held without a bound: it hears of all that it missed when it comes back."""
    with HubInThread(limits={"outgoing_bytes": 65536}) as hub, device(hub, "control", DESIRED) as control:
        deaf = device(hub, device_id, DESIRED)
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def is_connected() -> bool:
            return bool(service_twin(hub, device_id)["connectionState"] == "Connected")

        assert is_connected()
        for count in range(400):
            set_desired(hub, device_id, {f"k{n}": f"{count:04}" + "x" * 4000 for n in range(8)})
            if count % 20 == 19 and not is_connected():
                break
        assert not is_connected()
        assert "does not read" in hub.refusals(device_id, 1)[0].reason
        deaf.sock.close()
        set_desired(hub, "control", {"n": 1})
        assert said(control.read())[0].endswith("?$version=2")
        with device(hub, device_id, RESPONSES) as back:
            desired = json.loads(ask(back, GET + "1")[1])["desired"]
            assert desired["$version"] == count + 2


def test_twins_outlive_the_hub(tmp_path: Path, device_id: str) -> None:
    with HubInThread(tmp_path / "data") as hub:
        with device(hub, device_id, RESPONSES, DESIRED, clean=False) as peer:
            report(peer, {"fw": 1})
        set_desired(hub, device_id, {"interval": 5})
        before = service_twin(hub, device_id)
    with HubInThread(tmp_path / "data") as hub:
        after = service_twin(hub, device_id)
        for twin in (before, after):  # when it was last seen is not of interest here
            del twin["lastActivityTime"], twin["connectionState"]
        assert after == before
