"""Whatever comes in on one connection, the others and the hub go on (L-R1)."""

import contextlib
import logging
import os
import random
import socket
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, data
from conversations.https_peer import VERSION, kept_alive, raw, request
from conversations.mqtt_peer import MqttPeer, publish
from conversations.test_amqp_telemetry import address
from conversations.test_amqp_twins import Links
from conversations.test_mqtt_twins import GET, RESPONSES, device
from hubkeep.messaging.twins import Twins
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import AMQP_HEADER

WELL_FORMED = (  # what garbage is made of: valid beginnings, to get past the first check
    b"",
    b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04dv-1",
    b"\x30\x80\x80\x80\x01",
    AMQP_HEADER,
    AMQP_HEADER + b"\x00\x00\x00\x20\x02\x00\x00\x00\x00\x53\x10\xc0",
    b"AMQP\x03\x01\x00\x00\x00\x00\x00\x14\x02\x01\x00\x00\x00\x53\x41\xc0",
    b"POST /devices/a/messages/events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    (
        b"GET /$iothub/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ),
)


class Control:
    """A connection on each wire that was there before, and must be there after."""

    def __init__(self, hub: HubInThread, device_id: str, ask: Any) -> None:
        self.hub, self.ask, self.mqtt_device, self.amqp_device = hub, ask, f"{device_id}-m", f"{device_id}-a"
        self.mqtt = MqttPeer.logged_in(hub, self.mqtt_device)
        self.amqp = AmqpPeer.device(hub, self.amqp_device)
        self.amqp.attached(address(self.amqp_device), handle=0)

    def works(self) -> None:
        self.mqtt.send(publish(f"devices/{self.mqtt_device}/messages/events/", b"x"))
        assert self.mqtt.read() == (0x40, b"\0\1")
        assert self.amqp.outcome(self.amqp.transfer(0, data(b"x"))) == ("accepted", "")
        path = f"/devices/{self.mqtt_device}?{VERSION}"
        assert self.ask("GET", path, b"", self.hub.token()).status == 200
        assert request(self.hub, "GET", "/api/trust-bundle").status == 200  # and newcomers are let in


def sent(hub: HubInThread, port: int, content: bytes) -> None:
    """Over TLS, and whatever comes back."""
    peer = MqttPeer(hub) if port == 8883 else AmqpPeer(hub)
    with peer:
        peer.sock.settimeout(0.05)
        try:
            peer.sock.sendall(content)
            while peer.sock.recv(65536):
                pass
        except OSError:
            pass


@pytest.mark.spec("L-R1")
def test_bad_input_and_handlers_that_raise_end_their_own_connection_alone(
    device_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = random.Random(os.environ.get("HUBKEEP_SEED", "7"))
    with HubInThread() as hub, kept_alive(hub) as ask, contextlib.ExitStack() as opened:
        control = Control(hub, device_id, ask)
        opened.enter_context(control.mqtt)
        opened.enter_context(control.amqp)
        control.works()
        for port in (443, 8883, 5671):
            with socket.create_connection((hub.address, port), 10) as plain:  # no TLS at all
                plain.sendall(source.randbytes(300))
        for number in range(30):
            content = WELL_FORMED[number % len(WELL_FORMED)] + source.randbytes(source.randrange(400))
            for port in (8883, 5671):
                sent(hub, port, content)
            raw(hub, content, 0.05)
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR], "none reaches a handler's end"
        control.works()
        _handlers_raise(hub, device_id, monkeypatch)
        assert [each for each in caplog.records if each.levelno >= logging.ERROR], "and the operator learns of it"
        control.works()


def _handlers_raise(hub: HubInThread, device_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the hub's own, met on each wire."""
    victim = f"{device_id}-victim"
    get = Twins.get

    async def failing(self: Twins, wanted: str, *rest: Any, **options: Any) -> Any:
        if wanted == victim:
            raise RuntimeError("a fault")
        return await get(self, wanted, *rest, **options)

    monkeypatch.setattr(Twins, "get", failing)
    with device(hub, victim, RESPONSES) as peer:
        peer.send(publish(f"{GET}1", b"", qos=0))
        answer = peer.read()
        assert answer is None or b"/res/500/" in answer[1]
    with AmqpPeer.device(hub, victim) as peer:
        links = Links.of(peer, f"/devices/{victim}/twin")
        links.send("GET")
        got = peer.read()
        assert got is None or got.performative is not None
    head = f"GET /twins/{victim}?{VERSION} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    answered = raw(
        hub, f"{head}Authorization: {hub.token()}\r\n\r\n".encode(), 20
    )  # no answer that the description knows
    assert (answered[:12], b"a fault" in answered) == (b"HTTP/1.1 500", False)
