"""A hub that is killed in the middle of twin changes: none that was acknowledged is lost, versions only grow."""

import json
import random
import signal
import struct
import time
from pathlib import Path
from typing import Any

from cli.processes import HubProcess, hub_process
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish, subscribe
from hubkeep.wire import sas

ROUNDS, IN_FLIGHT = 4, 20
REPORT = "$iothub/twin/PATCH/properties/reported/?$rid="


class Killed(MqttPeer):
    """first-device of a hub that runs as a process."""

    def __init__(self, process: HubProcess) -> None:
        self.address = self.host_name = process.address
        self.trust_bundle = process.data / "trust-bundle.pem"
        parsed = sas.parse_connection_string(process.ok("connection-string", "--device", "first-device").strip())
        super().__init__(self)  # type: ignore[arg-type]  # of a hub it needs what stands here
        user_name = USER_NAME.format(host=self.host_name, client_id="first-device")
        token = sas.make(f"{self.host_name}/devices/first-device", parsed.key, int(time.time()) + 3600)
        self.send(connect("first-device", user_name, token) + subscribe([("$iothub/twin/res/#", 0)]))
        assert self.read(20) == (0x20, b"\0\0")
        assert self.read(20) == (0x90, b"\0\1\0")

    def answer(self) -> tuple[str, bytes] | None:
        """Topic and body of the next answer; None when the hub is gone."""
        packet = self.read(20)
        if packet is None:
            return None
        (size,) = struct.unpack_from(">H", packet[1])
        return packet[1][2 : 2 + size].decode(), packet[1][2 + size :]

    def reported(self) -> dict[str, Any]:
        self.send(publish("$iothub/twin/GET/?$rid=g", qos=0))
        answer = self.answer()
        assert answer is not None
        return json.loads(answer[1])["reported"]  # type: ignore[no-any-return]


def test_no_acknowledged_change_is_lost(tmp_path: Path) -> None:
    chance = random.Random(4)
    acknowledged = sent = 0  # numbers of changes; the version is one higher
    address = ""
    for _ in range(ROUNDS):
        with hub_process(tmp_path / "hub", address=address) as process:
            address = process.address
            with Killed(process) as peer:
                reported = peer.reported()
                # each change is there whole, with its own version, up to the last one that was acknowledged at least
                assert acknowledged <= reported.get("n", 0) <= sent
                assert reported["$version"] == 1 + reported.get("n", 0)
                assert {reported.get(f"n{each}") for each in range(1, 1 + min(reported.get("n", 0), 30))} <= {True}
                acknowledged = sent = reported.get("n", 0)
                kill_at = acknowledged + chance.randrange(30, 120)
                while True:
                    while sent < acknowledged + IN_FLIGHT:
                        sent += 1
                        body = json.dumps({"n": sent, f"n{sent % 1000}": True}).encode()
                        peer.send(publish(f"{REPORT}{sent}", body, qos=0))
                    answer = peer.answer()
                    if answer is None:
                        break
                    acknowledged += 1
                    assert answer[0] == f"$iothub/twin/res/204/?$rid={acknowledged}&$version={acknowledged + 1}"
                    if acknowledged == kill_at:
                        process.process.send_signal(signal.SIGKILL)
                        process.process.wait(10)
                        break
    assert acknowledged > ROUNDS * 30 - 1
