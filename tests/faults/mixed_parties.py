"""The devices and back ends of a mixed load, each as one thing that is done again and again."""

import asyncio
import contextlib
import datetime as dt
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import unquote

import aiohttp

from conversations.mqtt_peer import USER_NAME, connect, packet, publish, subscribe
from faults.amqp_stream import ACCEPTED, REJECTED, RELEASED, AmqpStream
from faults.ledger import Findings
from faults.load import Hub, identity_path
from faults.queue_ledger import DesiredView, Outcome, QueueLedger, SectionLedger
from faults.registry_ledger import RegistryLedger
from faults.served import Served
from hubkeep.wire.amqp import AmqpMessage, Symbol, Timestamp, decode_message, message, outcome_name
from hubkeep.wire.amqp.performatives import Disposition, Transfer

_VERSION = "api-version=2021-04-12"
_ACKS = ("full", "full", "full", "positive", "negative", "none")
_OUTCOMES: tuple[Outcome, ...] = ("completed",) * 8 + ("rejected", "abandoned")  # type: ignore[assignment]
_STATES = {"completed": ACCEPTED, "rejected": REJECTED, "abandoned": RELEASED}
_DESIRED = "/notifications/twin/properties/desired"
_RETRY = 0.1
_GONE = (OSError, EOFError, TimeoutError, ssl.SSLError, aiohttp.ClientError)


class Party:
    """What all of the load share."""

    def __init__(self, hub: Served, seed: int) -> None:
        self.hub: Hub = hub.for_load
        self.service_token = hub.token()
        self.context = hub.context()
        self.chance = random.Random(seed)
        self.ledger = QueueLedger()
        self.faults: list[str] = []
        self.connections: Counter[str] = Counter()  # that each party needed; those of HTTPS are not counted
        self.sending = True
        self.is_over = False
        self.session: aiohttp.ClientSession

    async def request(
        self, method: str, path: str, body: Any = None, token: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body, and headers by their names in lower case. Raises one of _GONE."""
        given = {"Authorization": token or self.service_token}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        url = f"https://{self.hub.address}{path}{'&' if '?' in path else '?'}{_VERSION}"
        async with self.session.request(method, url, data=data, headers=given) as answer:
            content = await answer.read()
            is_json = answer.content_type == "application/json"
            return (
                answer.status,
                json.loads(content) if is_json else content,
                {name.lower(): value for name, value in answer.headers.items()},
            )

    async def keep(self, once: Callable[[], Coroutine[Any, Any, None]], *, sends: bool) -> None:
        """Do ``once`` again and again; a hub that is gone is tried again."""
        while not self.is_over and (self.sending or not sends):
            try:
                await once()
            except _GONE:
                await asyncio.sleep(_RETRY)


# -- back ends -------------------------------------------------------------------------------------------------------


class Sender:
    """Sends to devices, one message at a time."""

    def __init__(self, party: Party, name: str, devices: list[str], pace: float) -> None:
        self.party, self.name, self.devices, self.pace = party, name, devices, pace

    def next(self) -> tuple[str, str, bytes, str, float | None]:
        """Device, message id, body, ack, expiry in Unix seconds."""
        chance = self.party.chance
        device, ack, draw = chance.choice(self.devices), chance.choice(_ACKS), chance.random()
        expiry = None if draw > 0.15 else time.time() + (1 if draw > 0.05 else -1)
        message_id, body = self.party.ledger.begin(self.name, device, ack, expires=expiry is not None)
        return device, message_id, body, ack, expiry

    async def rest(self) -> None:
        device, message_id, body, ack, expiry = self.next()
        headers = {"iothub_messageid": message_id, "iothub_ack": ack}
        if expiry is not None:
            headers["iothub_expiry"] = f"{dt.datetime.fromtimestamp(expiry, dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        status, answer, _ = await self.party.request("POST", f"/devices/{device}/messages/devicebound", body, **headers)
        if status == 204:
            self.party.ledger.accepted.add(message_id)
        elif status == 403:  # its queue is full
            self.party.ledger.refused.add(message_id)
        elif status < 500:
            self.party.faults.append(f"{status} for a message: {answer}")
        await asyncio.sleep(self.pace)

    async def amqp(self) -> None:
        """One connection, as long as it lasts."""
        policy = "iothubowner@sas.root." + self.party.hub.address.partition(".")[0]
        stream = await AmqpStream.logged_in(self.party.hub, self.party.context, policy, self.party.service_token)
        self.party.connections[self.name] += 1
        with contextlib.closing(stream):
            await stream.attach("/messages/devicebound", receiver=False)
            while self.party.sending:
                device, message_id, body, ack, expiry = self.next()
                properties = {
                    "message_id": message_id,
                    "to": f"/devices/{device}/messages/devicebound",
                    "absolute_expiry_time": None if expiry is None else Timestamp(int(expiry * 1000)),
                }
                raw = message(properties=properties, application_properties={"iothub-ack": ack}, data=body)
                number = stream.transfer(raw)
                outcome = ""
                while not outcome:
                    got, _ = await stream.next(Disposition)
                    if got.first <= number <= (got.first if got.last is None else got.last):
                        outcome = outcome_name(got.state)
                (self.party.ledger.accepted if outcome == "accepted" else self.party.ledger.refused).add(message_id)
                await asyncio.sleep(self.pace)


class BackEnd:
    """Reads feedback, writes desired properties, calls methods of those that are connected over MQTT."""

    def __init__(self, party: Party, twins: "list[TwinOwner]") -> None:
        self.party, self.twins = party, twins
        self.calls = self.called = 0
        self.quiet_since = time.monotonic()

    async def read_feedback(self) -> None:
        path = "/messages/serviceBound/feedback"
        status, content, headers = await self.party.request("GET", path)
        if status != 200:
            await asyncio.sleep(0.05)
            return
        self.quiet_since = time.monotonic()
        batch = headers["iothub-messageid"]
        self.party.ledger.feedback(batch, json.loads(content) if isinstance(content, bytes) else content)
        token = headers["etag"].strip('"')
        if (await self.party.request("DELETE", f"{path}/{token}"))[0] == 204:
            self.party.ledger.batch_read(batch)

    async def write_desired(self) -> None:
        for twin in self.twins:
            patch = {"properties": {"desired": twin.desired.begin()}}
            status, body, _ = await self.party.request("PATCH", twin.path, patch, Content_Type="application/json")
            if status == 200:
                twin.desired.acknowledge(body["properties"]["desired"]["$version"])
            elif status < 500:
                self.party.faults.append(f"{status} for desired properties: {body}")
            await asyncio.sleep(0.01)

    async def call(self) -> None:
        for twin in self.twins:
            if not isinstance(twin, MqttDevice):
                continue
            await asyncio.sleep(0.05)
            if not twin.view.version:
                continue  # it has not been connected yet
            self.called += 1
            call = {"methodName": "echo", "payload": {"n": self.called}, "responseTimeoutInSeconds": 5}
            status, body, _ = await self.party.request(
                "POST", f"{twin.path}/methods", call, Content_Type="application/json"
            )
            if status == 200:
                self.calls += 1
                if body != {"status": 200, "payload": {"n": self.called}}:
                    self.party.faults.append(f"call {self.called} was answered with {body}")
            elif status not in {404, 504} and status < 500:
                self.party.faults.append(f"{status} for a call: {body}")


class Registrar:
    """Makes, changes and deletes identities of its own, one change at a time."""

    def __init__(self, party: Party, identities: int) -> None:
        self.party, self.ledger = party, RegistryLedger()
        self._names = [f"registrar-{each}" for each in range(identities)]
        self._turn = 0

    async def change(self) -> None:
        name = self._names[self._turn % len(self._names)]
        deletes = self._turn // len(self._names) % 5 == 4
        self._turn += 1
        reason = self.ledger.begin(name, deletes=deletes)
        # what became of the change before this one nobody may know: it is there already, or it is not
        if deletes:
            status, body, _ = await self.party.request("DELETE", f"/devices/{name}", If_Match="*")
        else:
            identity = {"deviceId": name, "status": "enabled", "statusReason": reason}
            status, body, _ = await self._put(name, identity, If_Match="*")
            if status == 404:
                status, body, _ = await self._put(name, identity)
        if status in {200, 204} or (deletes and status == 404):
            self.ledger.acknowledge(name)
        elif status < 500:
            self.party.faults.append(f"{status} for an identity: {body}")
        await asyncio.sleep(0.01)

    async def _put(self, name: str, identity: dict[str, str | None], **headers: str) -> tuple[int, Any, dict[str, str]]:
        return await self.party.request("PUT", f"/devices/{name}", identity, Content_Type="application/json", **headers)

    async def check(self) -> Findings:
        found: dict[str, str | None] = {}
        for name in self._names:
            status, body, _ = await self.party.request("GET", f"/devices/{name}")
            if status == 200:
                found[name] = body["statusReason"]
        return self.ledger.check(found)


# -- devices ---------------------------------------------------------------------------------------------------------


class TwinOwner:
    """A device or module (``device/module``) that reports one change after another, and keeps its view of what is
    desired."""

    def __init__(self, party: Party, name: str) -> None:
        self.party, self.name = party, name
        self.path = f"/twins/{identity_path(name)}"
        self.reported, self.desired, self.view = SectionLedger(), SectionLedger(), DesiredView()

    async def connection(self) -> None:
        """One connection, as long as it lasts."""
        raise NotImplementedError


class MqttDevice(TwinOwner):
    """Answers methods, and acknowledges the messages that it gets as a device, in any order."""

    def __init__(self, party: Party, name: str) -> None:
        super().__init__(party, name)
        self._writer: asyncio.StreamWriter
        self._numbers = 0

    async def connection(self) -> None:
        hub, name = self.party.hub, self.name
        reader, writer = await asyncio.open_connection(
            hub.address, 8883, ssl=self.party.context, server_hostname=hub.address
        )
        self._writer, self._numbers = writer, 0
        self.party.connections[self.name] += 1
        try:
            user_name = USER_NAME.format(host=hub.address, client_id=name)
            self.view.connected()
            writer.write(connect(name, user_name, hub.token(name), clean=False))
            filters = ["$iothub/twin/res/#", "$iothub/methods/POST/#", "$iothub/twin/PATCH/properties/desired/#"]
            if "/" not in name:
                filters.append(f"devices/{name}/messages/devicebound/#")
            writer.write(subscribe([(each, 1) for each in filters], 65535))
            while not self.party.is_over:
                self._take(*await _packet(reader))
        finally:
            writer.transport.abort()

    def _take(self, first: int, body: bytes) -> None:
        if first == 0x20 and body[1]:
            raise ConnectionError(f"refused: {body[1]}")
        if first == 0x90:
            self._writer.write(publish("$iothub/twin/GET/?$rid=get", b"", qos=0))
        elif first >> 4 == 3:
            size = int.from_bytes(body[:2])
            topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
            if topic.startswith("devices/"):
                self._message(topic, rest)
            elif topic.startswith("$iothub/twin/res/"):
                self._answer(topic, rest)
            elif topic.startswith("$iothub/twin/PATCH/"):
                self.view.pushed(json.loads(rest))
            elif topic.startswith("$iothub/methods/POST/"):
                rid = topic.partition("$rid=")[2]
                self._writer.write(publish(f"$iothub/methods/res/200/?$rid={rid}", rest, qos=0))

    def _message(self, topic: str, rest: bytes) -> None:
        bag = dict(each.partition("=")[::2] for each in topic.rpartition("/")[2].split("&"))
        message_id = unquote(bag["%24.mid"])
        self.party.ledger.delivery(self.name, message_id, rest[2:])
        writer, puback = self._writer, packet(0x40, rest[:2])

        def acknowledge() -> None:
            if not writer.is_closing():
                self.party.ledger.trying(message_id, "completed")
                writer.write(puback)

        asyncio.get_running_loop().call_later(self.party.chance.choice((0, 0, 0.02, 0.1)), acknowledge)

    def _answer(self, topic: str, rest: bytes) -> None:
        status = topic.split("/")[3]
        if "$rid=get" in topic:
            self.view.got(json.loads(rest)["desired"])
        elif status == "204":
            self.reported.acknowledge(int(topic.partition("$version=")[2]))
        elif status < "500":
            self.party.faults.append(f"a report was answered with {topic}: {rest!r}")
        if self.party.sending:
            asyncio.get_running_loop().call_later(0.03, self._report, self._writer)

    def _report(self, writer: asyncio.StreamWriter) -> None:
        if not writer.is_closing():
            self._numbers += 1
            patch = json.dumps(self.reported.begin()).encode()
            writer.write(publish(f"$iothub/twin/PATCH/properties/reported/?$rid=r{self._numbers}", patch, qos=0))


class AmqpTwin(TwinOwner):
    """One pair of links on its twin."""

    async def connection(self) -> None:
        party, name = self.party, self.name
        user = f"{name}@sas." + party.hub.address.partition(".")[0]
        stream = await AmqpStream.logged_in(party.hub, party.context, user, party.hub.token(name))
        party.connections[name] += 1
        with contextlib.closing(stream):
            await stream.attach_pair(f"/devices/{identity_path(name)}/twin", credit=50)
            self.view.connected()
            _ask(stream, "listen", "PUT", _DESIRED)
            _ask(stream, "get", "GET")
            while not party.is_over:
                _, payload = await stream.next(Transfer)
                stream.give_credit(1)
                self._take(stream, decode_message(payload))

    def _take(self, stream: AmqpStream, answer: AmqpMessage) -> None:
        annotations, asked = answer.annotations, answer.properties.get("correlation_id")
        if annotations.get("resource") == _DESIRED:
            self.view.pushed(json.loads(answer.body()))
            return
        status = annotations["status"]
        if asked == "get" and status == 200:
            self.view.got(json.loads(answer.body())["desired"])
        elif asked == "report" and status == 204:
            self.reported.acknowledge(annotations["version"])
        elif status < 500 and (asked, status) != ("listen", 200):
            self.party.faults.append(f"{self.name}: {asked} was answered with {status}: {answer.body()!r}")
        if asked != "listen" and self.party.sending:
            asyncio.get_running_loop().call_later(0.03, self._report, stream)

    def _report(self, stream: AmqpStream) -> None:
        if not stream.is_closing:
            _ask(stream, "report", "PATCH", "/properties/reported", json.dumps(self.reported.begin()).encode())


def _ask(stream: AmqpStream, correlation_id: str, operation: str, resource: str = "", body: bytes = b"") -> None:
    annotations = {Symbol("operation"): operation} | ({Symbol("resource"): resource} if resource else {})
    stream.transfer(message(annotations=annotations, properties={"correlation_id": correlation_id}, data=body))


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        size |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return first, await reader.readexactly(size)


async def amqp_device(party: Party, name: str) -> None:
    """One connection, as long as it lasts; each outcome is confirmed by the hub (rcv-settle-mode second)."""
    user = f"{name}@sas." + party.hub.address.partition(".")[0]
    stream = await AmqpStream.logged_in(party.hub, party.context, user, party.hub.token(name))
    party.connections[name] += 1
    with contextlib.closing(stream):
        await stream.attach(f"/devices/{name}/messages/devicebound", receiver=True, credit=10)
        tried: dict[int, tuple[str, Outcome]] = {}
        while not party.is_over:
            got, payload = await stream.next((Transfer, Disposition))
            if isinstance(got, Transfer):
                content = decode_message(payload)
                message_id, outcome = content.properties["message_id"], party.chance.choice(_OUTCOMES)
                party.ledger.delivery(name, message_id, content.body())
                await asyncio.sleep(party.chance.choice((0, 0, 0.01)))
                party.ledger.trying(message_id, outcome)
                tried[got.delivery_id] = (message_id, outcome)
                stream.send(Disposition(True, got.delivery_id, None, False, _STATES[outcome]))
                stream.give_credit(1)
                continue
            for number in range(got.first, (got.first if got.last is None else got.last) + 1):
                message_id, outcome = tried.pop(number)
                if (
                    got.state is not None
                    and got.state.descriptor == _STATES[outcome].descriptor
                    and not got.state.value
                ):
                    party.ledger.confirm(message_id, outcome)
                    stream.send(Disposition(True, number, None, True, _STATES[outcome]))


async def https_device(party: Party, name: str) -> None:
    """One message, if there is one."""
    path, token = f"/devices/{name}/messages/devicebound", party.hub.token(name)
    status, body, headers = await party.request("GET", path, token=token)
    if status != 200:
        await asyncio.sleep(0.03)
        return
    message_id, outcome = headers["iothub-messageid"], party.chance.choice(_OUTCOMES)
    party.ledger.delivery(name, message_id, body)
    party.ledger.trying(message_id, outcome)
    lock = f"{path}/{headers['etag'].strip(chr(34))}"
    method, target = {
        "completed": ("DELETE", lock),
        "rejected": ("DELETE", f"{lock}?reject"),
        "abandoned": ("POST", f"{lock}/abandon"),
    }[outcome]
    if (await party.request(method, target, token=token))[0] == 204:
        party.ledger.confirm(message_id, outcome)
