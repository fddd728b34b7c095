"""A device and a back end that write a little of everything, and know what they were told of each.

Telemetry and reported properties over MQTT; identities, desired properties and cloud-to-device messages over HTTPS.
``run`` ends when all is done or the hub is gone; ``check`` compares with a hub that has started again.
"""

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, publish, subscribe
from faults.ledger import Ledger, body_of
from faults.queue_ledger import SectionLedger
from faults.served import Served

DEVICE = "writer"
_GONE = (OSError, http.client.HTTPException, EOFError)
_QUEUE = f"/devices/{DEVICE}/messages/devicebound"
_VERSION = "?api-version=2021-04-12"


class Writes:
    """problems: answers that no hub should give, whatever befalls its disk."""

    def __init__(self, hub: Served) -> None:
        self.hub = hub
        self.events = Ledger()
        self.reported, self.desired = SectionLedger(), SectionLedger()
        self.identities: dict[str, bool] = {}  # attempted, and whether acknowledged
        self.messages: dict[str, bool] = {}
        self.completing: set[str] = set()
        self.completed: set[str] = set()
        self.problems: list[str] = []
        self.refused = 0  # 5xx, closed instead of an answer
        self._sent = 0

    @property
    def acknowledged(self) -> int:
        counted = (self.reported.versions, self.desired.versions, self.completed)
        told = sum(map(sum, (self.identities.values(), self.messages.values())))
        return sum(map(len, self.events.acknowledged.values())) + sum(map(len, counted)) + told

    def run(self, rounds: int) -> None:
        """Both sides at the same time; each round is one write of every kind."""
        sides = [threading.Thread(target=self._until_gone, args=(side, rounds)) for side in (self._device, self._owner)]
        for each in sides:
            each.start()
        for each in sides:
            each.join()

    def _until_gone(self, side: Callable[[int], None], rounds: int) -> None:
        try:
            side(rounds)
        except _GONE:
            self.refused += 1
        except Exception as error:  # told by check, on the test's own thread
            self.problems.append(repr(error))

    # -- the device --------------------------------------------------------------------------------------------------

    def _device(self, rounds: int) -> None:
        hub = self.hub
        with contextlib.closing(self._connected()) as peer:
            user_name = USER_NAME.format(host=hub.address, client_id=DEVICE)
            peer.send(connect(DEVICE, user_name, hub.for_load.token(DEVICE)))
            self._expect(peer, 0x20)
            peer.send(subscribe([("$iothub/twin/res/#", 0)]))
            self._expect(peer, 0x90)
            for _ in range(rounds):
                number, self._sent = self._sent, self._sent + 1
                self.events.add(DEVICE, number + 1, ())
                peer.send(publish(f"devices/{DEVICE}/messages/events/", body_of(DEVICE, number)))
                self._expect(peer, 0x40)
                self.events.add(DEVICE, number + 1, (number,))
                patch = json.dumps(self.reported.begin()).encode()
                peer.send(publish("$iothub/twin/PATCH/properties/reported/?$rid=1", patch, qos=0))
                topic = self._expect(peer, 0x30)[2:].decode()
                if topic.startswith("$iothub/twin/res/204/"):
                    self.reported.acknowledge(int(topic.partition("$version=")[2]))
                elif not topic.startswith("$iothub/twin/res/5"):
                    self.problems.append(f"reported properties were answered with {topic}")

    def _connected(self) -> "_Peer":
        import socket

        raw = socket.create_connection((self.hub.address, 8883), 30)
        return _Peer(self.hub.context().wrap_socket(raw, server_hostname=self.hub.address))

    @staticmethod
    def _expect(peer: "_Peer", first: int) -> bytes:
        got = peer.read()
        if got is None:
            raise EOFError
        assert got[0] == first, got
        return got[1]

    # -- the back end ------------------------------------------------------------------------------------------------

    def _owner(self, rounds: int) -> None:
        connection = http.client.HTTPSConnection(self.hub.address, 443, context=self.hub.context(), timeout=30)
        with contextlib.closing(connection):
            for _ in range(rounds):
                name = f"made-{len(self.identities)}"
                self.identities[name] = False
                status, _, _ = self._ask(connection, "PUT", f"/devices/{name}", {"deviceId": name})
                self.identities[name] = self._is_done(status, 200, "an identity")
                message_id = f"message-{len(self.messages)}"
                self.messages[message_id] = False
                status, _, _ = self._ask(connection, "POST", _QUEUE, message_id, iothub_messageid=message_id)
                self.messages[message_id] = self._is_done(status, 204, "a message")
                patch = {"properties": {"desired": self.desired.begin()}}
                status, body, _ = self._ask(connection, "PATCH", f"/twins/{DEVICE}", patch)
                if self._is_done(status, 200, "desired properties"):
                    self.desired.acknowledge(body["properties"]["desired"]["$version"])
                self._complete(connection)

    def _complete(self, connection: http.client.HTTPSConnection) -> bool:
        """Receive a message and complete it. False: there was none."""
        token = self.hub.for_load.token(DEVICE)
        status, body, headers = self._ask(connection, "GET", _QUEUE, token=token)
        if status != 200:
            if status != 204:
                self._is_done(status, 204, "a receive")
            return False
        message_id = headers["iothub-messageid"]
        if message_id not in self.messages or body != message_id.encode():
            self.problems.append(f"{message_id} with {body!r}, which nobody sent")
        if message_id in self.completed:
            self.problems.append(f"{message_id} came again after it was completed")
        self.completing.add(message_id)
        lock = headers["etag"].strip('"')
        if self._is_done(self._ask(connection, "DELETE", f"{_QUEUE}/{lock}", token=token)[0], 204, "a completion"):
            self.completed.add(message_id)
        return True

    def _ask(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any = None, *, token: str = "",
        **headers: str,
    ) -> tuple[int, Any, dict[str, str]]:  # fmt: skip
        content = json.dumps(body) if isinstance(body, dict) else body
        given = {"Authorization": token or self.hub.token(), "Content-Type": "application/json", **headers}
        given = {name.replace("_", "-"): value for name, value in given.items()}
        connection.request(method, path + _VERSION, content, given)
        answer = connection.getresponse()
        raw = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = found.get("content-type", "").startswith("application/json")
        return answer.status, json.loads(raw) if is_json and raw else raw, found

    def _is_done(self, status: int, wanted: int, what: str) -> bool:
        if status != wanted and status != 503:
            self.problems.append(f"{status} for {what}")
        self.refused += status == 503
        return status == wanted

    # -- what came of it ---------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What is wrong with what the hub, started again, knows of it all; it takes the rest of the queue."""
        findings = self.events.check(self.hub.events())
        faults = [*self.problems] + ([str(findings)] if findings.faults else [])
        connection = http.client.HTTPSConnection(self.hub.address, 443, context=self.hub.context(), timeout=30)
        with contextlib.closing(connection):
            _, devices, _ = self._ask(connection, "GET", "/devices")
            known = {each["deviceId"] for each in devices} - {DEVICE}
            faults += [f"{name} is lost" for name, is_told in self.identities.items() if is_told and name not in known]
            faults += [f"{name}, which nobody made" for name in known - self.identities.keys()]
            _, twin, _ = self._ask(connection, "GET", f"/twins/{DEVICE}")
            for name, ledger in (("reported", self.reported), ("desired", self.desired)):
                section = {key: value for key, value in twin["properties"][name].items() if key != "$metadata"}
                faults += [f"{name}: {each}" for each in ledger.check(section)]
            while self._complete(connection):
                pass
            left = {name for name, is_told in self.messages.items() if is_told} - self.completing
            faults += [f"{name} is lost" for name in left]
        status, reasons = self.hub.health()
        return faults + [f"health {status}: {each}" for each in reasons]


class _Peer(MqttPeer):
    """One connection to a hub of another process."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock, self._held = sock, b""

    def close(self) -> None:
        self.sock.close()
