"""Who is connected, since when, and who is cut off, on every wire: true within a second (D-22, L-I2, L-I3)."""

import contextlib
import datetime as dt
import http.client
import ssl
import time
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data, device_token
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, eventually
from conversations.websocket_pipe import WebSocketPipe
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import Detach

WIRES = ("mqtt", "mqtt over a WebSocket", "amqp", "amqp over a WebSocket")


def connected(hub: HubInThread, wire: str, device_id: str) -> Any:
    """A peer of the wire that has logged in; over AMQP with a link for telemetry."""
    over_websocket = "WebSocket" in wire
    if wire.startswith("mqtt"):
        mqtt = MqttPeer(hub, WebSocketPipe(hub, "mqtt") if over_websocket else None)  # type: ignore[arg-type]
        mqtt.send(mqtt.login(device_id, keep_alive=200))
        assert mqtt.read() == (0x20, b"\0\0")
        return mqtt
    amqp = AmqpPeer(hub, WebSocketPipe(hub, "AMQPWSB10") if over_websocket else None)  # type: ignore[arg-type]
    amqp.opened().authorised(device_token(hub, device_id))
    amqp.attached(f"/devices/{device_id}/messages/events", handle=0)
    return amqp


def identity(hub: HubInThread, device_id: str) -> Any:
    return request(hub, "GET", f"/devices/{device_id}?{VERSION}").body


def unix(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text[:26]}Z").timestamp()


def wait_state(hub: HubInThread, device_id: str, state: str) -> Any:
    assert eventually(lambda: identity(hub, device_id)["connectionState"] == state, 10)
    return identity(hub, device_id)


@pytest.mark.parametrize("wire", WIRES)
def test_the_state_follows_the_socket(shared_hub: HubInThread, device_id: str, wire: str) -> None:
    began = shared_hub.clock.now()
    with connected(shared_hub, wire, device_id) as peer:
        there = wait_state(shared_hub, device_id, "Connected")
        assert began - 1 < unix(there["connectionStateUpdatedTime"]) < shared_hub.clock.now() + 1
        assert began - 1 < unix(there["lastActivityTime"])
        closed = shared_hub.clock.now()
        peer.sock.close()  # without a good-bye
    gone = wait_state(shared_hub, device_id, "Disconnected")
    # when the hub noticed, not when it wrote it down
    assert closed - 0.1 < unix(gone["connectionStateUpdatedTime"]) < closed + 1
    assert unix(gone["lastActivityTime"]) >= unix(there["lastActivityTime"])


@pytest.mark.parametrize("wire", WIRES)
def test_who_is_taken_over_stays_connected(shared_hub: HubInThread, device_id: str, wire: str) -> None:
    with connected(shared_hub, wire, device_id) as older:
        there = wait_state(shared_hub, device_id, "Connected")
        with connected(shared_hub, wire, device_id):
            if isinstance(older, AmqpPeer):
                assert condition(older.expect(Detach).error) == "amqp:link:stolen"
            else:
                assert older.is_closed()
            found = identity(shared_hub, device_id)  # reading has the state written first
            assert (found["connectionState"], found["connectionStateUpdatedTime"]) == (
                "Connected",
                there["connectionStateUpdatedTime"],
            )
        wait_state(shared_hub, device_id, "Disconnected")


def test_the_state_follows_the_deadline_of_silence() -> None:
    with HubInThread() as hub, contextlib.ExitStack() as opened:
        peers = {f"d{at}": opened.enter_context(connected(hub, wire, f"d{at}")) for at, wire in enumerate(WIRES)}
        hub.clock.move(200)  # MQTT's keep-alive of 200 s gives it 300; AMQP has 240
        for name in peers:
            assert wait_state(hub, name, "Connected")
        at = hub.clock.now()
        hub.clock.move(150)
        for name, peer in peers.items():
            assert unix(wait_state(hub, name, "Disconnected")["connectionStateUpdatedTime"]) > at
            assert peer.closes() if isinstance(peer, AmqpPeer) else peer.is_closed()


def test_a_request_over_https_is_activity_and_no_connection(shared_hub: HubInThread, device_id: str) -> None:
    token = device_token(shared_hub, device_id)
    before = shared_hub.clock.now()
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    assert request(shared_hub, "POST", path, b"x", token=token).status == 204
    found = identity(shared_hub, device_id)
    assert found["connectionState"] == "Disconnected"
    assert before - 1 < unix(found["lastActivityTime"]) < before + 10


def end(hub: HubInThread, device_id: str, how: str) -> None:
    path = f"/devices/{device_id}?{VERSION}"
    if how == "deleted":
        assert request(hub, "DELETE", path, headers={"If-Match": "*"}).status == 204
    else:
        body = {"deviceId": device_id, "status": "disabled"}
        assert request(hub, "PUT", path, body, headers={"If-Match": "*"}).status == 200


@pytest.mark.spec("L-I2", "L-I3")
@pytest.mark.parametrize("how", ["disabled", "deleted"])
@pytest.mark.parametrize("wire", WIRES)
def test_who_is_disabled_or_deleted_is_cut_off(shared_hub: HubInThread, device_id: str, wire: str, how: str) -> None:
    with connected(shared_hub, wire, device_id) as peer, connected(shared_hub, wire, f"{device_id}-other") as other:
        wait_state(shared_hub, device_id, "Connected")
        began = time.monotonic()
        end(shared_hub, device_id, how)
        if isinstance(peer, AmqpPeer):
            assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"
            assert peer.closes()
            assert other.outcome(other.transfer(0, data(b"on"))) == ("accepted", "")
        else:
            assert peer.is_closed()
            assert other.is_open()
        assert time.monotonic() - began < 5  # a second, and what a busy machine adds
        if how == "disabled":
            wait_state(shared_hub, device_id, "Disconnected")


@pytest.mark.spec("L-I2", "L-I3", "D-89")
@pytest.mark.parametrize("how", ["disabled", "deleted"])
def test_one_of_many_on_a_connection_is_cut_off_alone(shared_hub: HubInThread, device_id: str, how: str) -> None:
    names = [f"{device_id}-{each}" for each in range(3)]
    with AmqpPeer(shared_hub).opened().authorised(device_token(shared_hub, names[0])) as peer:
        for handle, name in enumerate(names):
            assert peer.put_token(device_token(shared_hub, name)).status == 200
            peer.attached(f"/devices/{name}/messages/events", handle=handle)
        end(shared_hub, names[1], how)
        detached = peer.expect(Detach)
        assert (detached.handle, condition(detached.error)) == (1, "amqp:unauthorized-access")
        for handle in (0, 2):
            assert peer.outcome(peer.transfer(handle, data(b"on"))) == ("accepted", "")


@pytest.mark.spec("L-I2", "L-I3")
@pytest.mark.parametrize(("how", "status"), [("disabled", 401), ("deleted", 401)])
def test_a_kept_connection_of_https_is_refused_its_next_request(
    shared_hub: HubInThread, device_id: str, how: str, status: int
) -> None:
    token = device_token(shared_hub, device_id)
    context = ssl.create_default_context(cafile=str(shared_hub.trust_bundle))
    connection = http.client.HTTPSConnection(shared_hub.host_name, 443, context=context, timeout=10)

    def post() -> int:
        connection.request("POST", f"/devices/{device_id}/messages/events?{VERSION}", b"x", {"Authorization": token})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    try:
        assert post() == 204
        end(shared_hub, device_id, how)
        assert post() == status
    finally:
        connection.close()


@pytest.mark.spec("D-21")
def test_an_expired_token_ends_a_connection_and_its_state() -> None:
    with HubInThread() as hub, contextlib.ExitStack() as opened:
        began = hub.clock.now()
        peers = {f"d{at}": opened.enter_context(connected(hub, wire, f"d{at}")) for at, wire in enumerate(WIRES[:2])}
        while hub.clock.now() < began + 3600 + 200:  # its grace is 300 s
            hub.clock.move(150)
            assert all(peer.is_open() for peer in peers.values())
        hub.clock.move(250)  # the devices live, their tokens of an hour do not
        for name, peer in peers.items():
            assert peer.is_closed()
            wait_state(hub, name, "Disconnected")
