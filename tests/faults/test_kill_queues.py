"""SIGKILL while messages go to a device: each that was queued ends exactly once, with its feedback (L-S1)."""

import contextlib
import http.client
import json
import random
import struct
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, packet, subscribe
from faults.devices import _connected
from faults.served import Served

DEVICE = "pump"
VERSION = "api-version=2021-04-12"


class BackEnd:
    """Sends numbered messages as fast as they are taken; keeps which were acknowledged. One connection."""

    def __init__(self, hub: Served) -> None:
        self.hub, self.attempted = hub, 0
        self.acknowledged: set[str] = set()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any, bytes]:
        given = {"Authorization": self.hub.token(), **(headers or {})}
        self._connection.request(method, f"{path}?{VERSION}", b"" if method == "POST" else None, given)
        answer = self._connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def close(self) -> None:
        self._connection.close()

    def open(self) -> None:
        self._connection = http.client.HTTPSConnection(self.hub.address, 443, context=self.hub.context(), timeout=20)

    def send_until_it_breaks(self) -> None:
        self.open()
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                name = f"m-{self.attempted}"
                status, _, _ = self.ask(
                    "POST",
                    f"/devices/{DEVICE}/messages/devicebound",
                    {"iothub-messageid": name, "iothub-ack": "full", "Content-Type": "text/plain"},
                )
                if status == 204:
                    self.acknowledged.add(name)
                    self.attempted += 1
                else:
                    assert status == 403, "only a full queue refuses"
                    time.sleep(0.01)
        self._connection.close()
        self.attempted += 1  # what was under way may have been stored: its number is not used again

    def waiting(self) -> int:
        return len(json.loads(self.ask("GET", f"/api/devices/{DEVICE}/messages")[2])["waiting"])

    def feedback(self) -> list[dict[str, str]]:
        path = "/messages/servicebound/feedback"
        status, headers, content = self.ask("GET", path)
        if status == 204:
            return []
        assert self.ask("DELETE", f"{path}/{headers['ETag'].strip(chr(34))}")[0] == 204
        records: list[dict[str, str]] = json.loads(content)
        return records


class Device:
    """Takes messages over a persistent session that it subscribes once. forgetful: leaves some unacknowledged."""

    def __init__(self, hub: Served) -> None:
        self.hub, self.is_subscribed = hub, False
        self.received: Counter[str] = Counter()
        self.source = random.Random(4)

    def take_until_it_breaks(self, *, forgetful: bool) -> None:
        with contextlib.suppress(OSError), MqttPeer(self.hub, _connected(self.hub, 8883, 20)) as peer:
            user_name = USER_NAME.format(host=self.hub.address, client_id=DEVICE)
            peer.send(connect(DEVICE, user_name, self.hub.for_load.token(DEVICE), clean=False))
            present = peer.read(20)
            assert present is None or present == (0x20, bytes((self.is_subscribed, 0)))
            if not self.is_subscribed and present is not None:
                peer.send(subscribe([(f"devices/{DEVICE}/messages/devicebound/#", 1)]))
                self.is_subscribed = peer.read(20) == (0x90, b"\0\1\1")
            while (got := peer.read(20)) is not None:
                topic, rest = got[1][2 : 2 + (size := struct.unpack_from(">H", got[1])[0])], got[1][2 + size :]
                self.received[topic.decode().partition("%24.mid=")[2].partition("&")[0]] += 1
                if not forgetful or self.source.random() < 0.8:
                    peer.send(packet(0x40, rest[:2]))


@pytest.mark.timeout(300)
@pytest.mark.spec("L-S1", "D-61")
def test_each_message_ends_once_whenever_the_hub_is_killed(tmp_path: Path) -> None:
    environment = {"HUBKEEP_LIMITS__FEEDBACK_WAIT": "1"}
    with Served(tmp_path / "data", environment=environment) as hub:
        hub.start()
        hub.register([DEVICE])
        back_end, device = BackEnd(hub), Device(hub)
        began = time.monotonic()
        kills = 0
        while kills < 6 and (kills < 3 or time.monotonic() - began < 20):
            work = [
                threading.Thread(target=back_end.send_until_it_breaks),
                threading.Thread(target=device.take_until_it_breaks, kwargs={"forgetful": True}),
            ]
            for each in work:
                each.start()
            time.sleep(0.5 + device.source.random())
            hub.kill()
            for each in work:
                each.join(30)
            kills += 1
            hub.start()
        last = threading.Thread(target=device.take_until_it_breaks, kwargs={"forgetful": False})
        last.start()
        back_end.open()
        deadline = time.monotonic() + 60
        while back_end.waiting() and time.monotonic() < deadline:
            time.sleep(0.1)
        told: Counter[str] = Counter()
        results: set[str] = set()
        while time.monotonic() < deadline and (back_end.acknowledged - told.keys()):
            records = back_end.feedback()
            told.update(each["originalMessageId"] for each in records)
            results.update(each["statusCode"] for each in records)
            if not records:
                time.sleep(0.1)
        assert back_end.waiting() == 0
        back_end.close()
        hub.kill()
        last.join(30)
    print(f"{kills} kills, {len(back_end.acknowledged)} acknowledged, {device.received.total()} deliveries")
    assert len(back_end.acknowledged) >= 20
    assert back_end.acknowledged <= told.keys(), "queued, and nobody was told of its end"
    assert back_end.acknowledged <= device.received.keys(), "queued, and never delivered"
    assert set(told.values()) == {1}, "an end that was told twice"
    assert results == {"Success"}
