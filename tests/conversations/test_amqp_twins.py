"""Twins and direct methods over AMQP by raw frames, and with Qpid Proton."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from conversations.amqp_peer import AmqpPeer, condition, device_token
from conversations.https_peer import VERSION, request
from conversations.proton_peer import Received, device_connection
from conversations.test_mqtt_methods import invoke, number
from conversations.test_mqtt_twins import service_twin, set_desired
from hubkeep.model import Identity
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp import AmqpMessage, Int, Symbol, ULong, decode_message, message
from hubkeep.wire.amqp.performatives import Detach, Disposition, Transfer, outcome_name

REPORTED, DESIRED = "/properties/reported", "/notifications/twin/properties/desired"
CORRELATION = Symbol("com.microsoft:channel-correlation-id")


class Links(NamedTuple):
    """A pair of links: the peer's sender and, one higher, its receiver."""

    peer: AmqpPeer
    handle: int = 0

    @classmethod
    def of(cls, peer: AmqpPeer, address: str, handle: int = 0, credit: int = 100, **options: Any) -> "Links":
        correlation = {CORRELATION: f"{address}:{handle}"}
        peer.attached(address, handle=handle, properties=correlation, name=f"s{handle}", **options)
        peer.attached(address, handle=handle + 1, receiver=True, properties=correlation, name=f"r{handle}", **options)
        if credit:
            peer.credit(handle + 1, credit)
        return cls(peer, handle)

    def send(
        self,
        operation: str | None,
        resource: str | None = None,
        body: bytes = b"",
        *,
        settled: bool = True,
        **rest: Any,
    ) -> int:
        annotations: dict[Any, Any] = {}
        for name, value in (("operation", operation), ("resource", resource), ("version", rest.pop("version", None))):
            if value is not None:
                annotations[Symbol(name)] = value
        rest.setdefault("correlation_id", "c-1")
        return self.peer.transfer(
            self.handle, message(annotations=annotations, properties=rest, data=body), settled=settled
        )

    def receive(self) -> AmqpMessage:
        got = self.peer.expect_frame(Transfer)
        assert got.performative.handle == self.handle + 1
        if not got.performative.settled:
            self.peer.send(Disposition(True, got.performative.delivery_id, None, True, None))
        return decode_message(got.payload)

    def ask(self, *arguments: Any, **options: Any) -> AmqpMessage:
        self.send(*arguments, **options)
        return self.receive()


def status(answer: AmqpMessage) -> int:
    value = answer.annotations["status"]
    assert type(value) is Int, type(value)
    return int(value)


def twin(hub: HubInThread, device_id: str, **options: Any) -> Links:
    return Links.of(AmqpPeer.device(hub, device_id), f"/devices/{device_id}/twin", **options)


@pytest.fixture
def calling(shared_hub: HubInThread, device_id: str) -> Iterator[Any]:
    with ThreadPoolExecutor() as pool:
        yield lambda **body: pool.submit(invoke, shared_hub, device_id, **body)


@pytest.mark.spec("D-99")
@pytest.mark.parametrize("correlation_id", ["Get1f0c", uuid.uuid4(), ULong(0)], ids=["text", "uuid", "ulong"])
def test_the_operations_of_a_twin(shared_hub: HubInThread, device_id: str, correlation_id: Any) -> None:
    links = twin(shared_hub, device_id)
    with links.peer:
        for operation, resource, body, expected in (
            ("GET", None, b"", 200),
            ("GET", "", b" ", 200),
            ("PATCH", REPORTED, b'{"fw":"1.2"}', 204),
            ("PUT", DESIRED, b" ", 200),
            ("PUT", DESIRED, b"", 200),
            ("DELETE", DESIRED, b"", 200),
        ):
            answer = links.ask(operation, resource, body, correlation_id=correlation_id)
            assert status(answer) == expected
            sent = answer.properties["correlation_id"]
            assert (type(sent), sent) == (type(correlation_id), correlation_id)
            assert answer.data is not None
            if operation == "GET":
                document = json.loads(answer.body())
                assert set(document) == {"desired", "reported"}
                assert document["desired"] == {"$version": 1}
            else:
                assert answer.data == [b""]
            if operation == "PATCH":
                assert type(answer.annotations["version"]) is int  # a long
                assert answer.annotations["version"] == 2
    assert service_twin(shared_hub, device_id)["properties"]["reported"]["fw"] == "1.2"


@pytest.mark.spec("L-D3", "L-D1")
def test_refused_operations_change_nothing(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id)
    with links.peer:
        assert status(links.ask("PATCH", REPORTED, b'{"a":1}', version=1)) == 204
        before = service_twin(shared_hub, device_id)["properties"]
        for expected, arguments, options in (
            (412, ("PATCH", REPORTED, b'{"a":2}'), {"version": 1}),
            (400, ("PATCH", REPORTED, b'{"a":2}'), {"version": "2"}),
            (400, ("PATCH", REPORTED, b'{"a.b":2}'), {}),
            (400, ("PATCH", REPORTED, b"[]"), {}),
            (400, ("PATCH", REPORTED, b'{"a":1,"a":2}'), {}),
            (400, ("PATCH", DESIRED, b'{"a":2}'), {}),
            (400, ("PATCH", None, b'{"a":2}'), {}),
            (400, ("POST", REPORTED, b'{"a":2}'), {}),
            (400, ("GET", "/other", b""), {}),
            (400, ("PUT", REPORTED, b"{}"), {}),
            (400, (None, None, b""), {}),
        ):
            answer = links.ask(*arguments, **options)
            assert status(answer) == expected, arguments
            assert json.loads(answer.body())["errorCode"] in {412001, 400004, 400006}
        links.peer.transfer(0, b"\x00\x01 no message", settled=True)
        assert status(links.receive()) == 400
        assert service_twin(shared_hub, device_id)["properties"] == before
        assert status(links.ask("PATCH", REPORTED, b'{"a":3}', version=2)) == 204


def test_an_unsettled_request_is_accepted_before_its_answer(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id)
    with links.peer as peer:
        sent = links.send("PATCH", REPORTED, b'{"a":1}', settled=False)
        assert peer.outcome(sent) == ("accepted", "")
        assert status(links.receive()) == 204


def test_desired_patches_are_pushed(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id)
    with links.peer:
        set_desired(shared_hub, device_id, {"before": 1})
        assert status(links.ask("PUT", DESIRED)) == 200
        set_desired(shared_hub, device_id, {"interval": 60, "gone": None})
        pushed = links.receive()
        assert "correlation_id" not in pushed.properties
        assert pushed.annotations["resource"] == DESIRED
        assert pushed.data is not None
        assert json.loads(pushed.body()) == {"interval": 60, "gone": None, "$version": 3}
        assert status(links.ask("DELETE", DESIRED)) == 200
        set_desired(shared_hub, device_id, {"unheard": 1})
        assert json.loads(links.ask("GET").body())["desired"]["unheard"] == 1


def test_what_has_no_credit_waits_in_order(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id, credit=1)
    with links.peer as peer:
        assert status(links.ask("PUT", DESIRED)) == 200
        for count in range(5):
            set_desired(shared_hub, device_id, {"n": count})
        links.send("GET", correlation_id="last")
        peer.credit(1, 100, count=1)
        assert [json.loads(links.receive().body())["n"] for _ in range(5)] == list(range(5))
        assert links.receive().properties["correlation_id"] == "last"


@pytest.mark.spec("D-99")
def test_an_answer_goes_to_its_own_device_in_one_session(shared_hub: HubInThread, device_id: str) -> None:
    """Clients multiplex devices, each with a pair of its own, in one session."""
    ids = [f"{device_id}-{number}" for number in range(5)]
    with AmqpPeer(shared_hub).opened() as peer:
        peer.node()
        for each in ids:
            assert peer.put_token(device_token(shared_hub, each), message_id=each).status == 200
        pairs = [Links.of(peer, f"/devices/{each}/twin", handle=2 * position) for position, each in enumerate(ids)]
        for each, links in zip(ids, pairs, strict=True):
            assert status(links.ask("PATCH", REPORTED, json.dumps({"me": each}).encode())) == 204
            assert status(links.ask("PUT", DESIRED)) == 200
        for each, links in zip(ids, pairs, strict=True):
            set_desired(shared_hub, each, {"you": each})
            assert json.loads(links.receive().body())["you"] == each
            assert json.loads(links.ask("GET").body())["reported"]["me"] == each


@pytest.mark.spec("D-116")
def test_a_thousand_devices_on_one_connection(device_id: str) -> None:
    count = 1000
    with HubInThread() as hub:

        async def register() -> list[Identity]:
            rules = hub.hub._identities
            devices = [rules.fresh(Identity(device_id=f"{device_id}-{each}")) for each in range(count)]
            await rules._store.create(*devices)  # in one transaction
            return devices

        devices = hub.ask(register())
        with AmqpPeer(hub).opened() as peer:
            peer.node(handle=8000, credit=2000)
            for each in devices:
                token = hub.token(f"devices/{each.device_id}", key=each.primary_key)
                assert peer.put_token(token, handle=8000).status == 200
            for handle in range(count):
                peer.attached(f"/devices/{device_id}-{handle}/messages/events", handle=handle)
            sent = [peer.transfer(handle, message(data=b"%d" % handle)) for handle in range(count)]
            settled: set[int] = set()
            while len(settled) < count:
                got = peer.expect(Disposition)
                assert outcome_name(got.state) == "accepted"
                settled |= set(range(got.first, 1 + (got.first if got.last is None else got.last)))
            assert settled == set(sent)
            links = Links.of(peer, f"/devices/{device_id}-999/twin", handle=2000)
            assert status(links.ask("PATCH", REPORTED, b'{"last":true}')) == 204
        events = hub.wait_for_events(count, 30)
    assert {each["annotations"]["iothub-connection-device-id"]: each["body"] for each in events} == {
        f"{device_id}-{each}": str(each) for each in range(count)
    }


@pytest.mark.spec("L-D4")
def test_requests_side_by_side(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id)
    with links.peer:
        for count in range(40):
            links.send("PATCH", REPORTED, b'{"r%d":%d}' % (count, count), correlation_id=f"{count}")
        answers = [links.receive() for _ in range(40)]
        assert [each.properties["correlation_id"] for each in answers] == [f"{count}" for count in range(40)]
        assert [each.annotations["version"] for each in answers] == list(range(2, 42))


@pytest.mark.spec("D-91", "L-A15")
def test_links_of_another_identity_are_refused(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(f"{device_id}-2")
    with AmqpPeer.device(shared_hub, device_id) as peer:
        for handle, address in enumerate(
            (
                f"/devices/{device_id}-2/twin",
                f"/devices/{device_id}/modules/m/twin",
                f"/devices/{device_id}-2/methods/devicebound",
                f"/devices/{device_id.upper()}/twin",
            )
        ):
            for receiver in (False, True):
                error = peer.refused(address, handle=2 * handle + receiver, receiver=receiver)
                assert condition(error) == "amqp:unauthorized-access"


@pytest.mark.spec("L-I2")
def test_a_disabled_device_loses_its_links(shared_hub: HubInThread, device_id: str) -> None:
    links = twin(shared_hub, device_id)
    with links.peer as peer:
        assert status(links.ask("PUT", DESIRED)) == 200
        body = {"deviceId": device_id, "status": "disabled"}
        request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", body, headers={"If-Match": "*"})
        set_desired(shared_hub, device_id, {"secret": 1})
        assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"
        assert condition(peer.expect(Detach).error) == "amqp:unauthorized-access"
        assert peer.closes()


def test_the_model_of_a_link_shows_in_the_twin(shared_hub: HubInThread, device_id: str) -> None:
    with AmqpPeer.device(shared_hub, device_id) as peer:
        model = {Symbol("com.microsoft:model-id"): "dtmi:com:example:Thermo;1"}
        peer.attached(f"/devices/{device_id}/twin", handle=0, properties=model)
        assert service_twin(shared_hub, device_id)["modelId"] == "dtmi:com:example:Thermo;1"


# -- methods ---------------------------------------------------------------------------------------------------------


def methods(hub: HubInThread, device_id: str, **options: Any) -> Links:
    return Links.of(AmqpPeer.device(hub, device_id), f"/devices/{device_id}/methods/devicebound", **options)


def answer(links: Links, correlation_id: Any, status: Any = Int(200), body: bytes | None = b"", **options: Any) -> int:  # noqa: B008
    encoded = message(
        properties={"correlation_id": correlation_id},
        application_properties={"IoThub-status": status, "other": "ignored"},
        data=body,
    )
    return links.peer.transfer(links.handle, encoded, **options)


Calling = Any


@pytest.mark.spec("D-100")
def test_a_method_and_its_answer(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    links = methods(shared_hub, device_id)
    with links.peer as peer:
        for position, spelled in enumerate((lambda each: each, str, lambda each: str(each).upper())):
            call: Future[Any] = calling(payload={"soft": True}, connectTimeoutInSeconds=10)
            asked = links.receive()
            known_by = asked.properties["correlation_id"]
            assert isinstance(known_by, uuid.UUID)
            assert known_by.version == 4
            assert asked.application_properties == {"IoThub-methodname": "reboot"}
            assert asked.data is not None
            assert json.loads(asked.body()) == {"soft": True}
            sent = answer(links, spelled(known_by), Int(-position), b'{"ok":1}')
            assert peer.outcome(sent) == ("accepted", "")
            assert call.result(10).body == {"status": -position, "payload": {"ok": 1}}
        call = calling()
        asked = links.receive()
        assert asked.body() == b"null"
        answer(links, asked.properties["correlation_id"], settled=True)
        assert call.result(10).body == {"status": 200, "payload": None}


@pytest.mark.spec("L-D8")
def test_a_device_without_both_links_and_credit_is_not_online(shared_hub: HubInThread, device_id: str) -> None:
    address = f"/devices/{device_id}/methods/devicebound"
    with AmqpPeer.device(shared_hub, device_id) as peer, ThreadPoolExecutor() as pool:
        peer.attached(address, handle=1, receiver=True)
        peer.credit(1, 1)
        assert number(invoke(shared_hub, device_id))[1] == 404103
        peer.attached(address, handle=0)
        links = Links(peer)
        call = pool.submit(invoke, shared_hub, device_id)
        known_by = links.receive().properties["correlation_id"]
        assert number(invoke(shared_hub, device_id))[1] == 404103  # the credit is used up
        answer(links, known_by, settled=True)
        assert call.result(10).status == 200
        waiting = pool.submit(invoke, shared_hub, device_id, connectTimeoutInSeconds=20)
        peer.credit(1, 10, count=1)
        answer(links, links.receive().properties["correlation_id"], settled=True)
        assert waiting.result(10).status == 200
        call = pool.submit(invoke, shared_hub, device_id)
        links.receive()
        peer.send(Detach(0, True))  # its sender: it can answer no more
        assert number(call.result(10))[1] == 404104


@pytest.mark.spec("L-D8")
def test_answers_that_count_for_nothing(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    links = methods(shared_hub, device_id)
    with links.peer as peer:
        call: Future[Any] = calling(connectTimeoutInSeconds=10)
        known_by = links.receive().properties["correlation_id"]
        for wrong in (uuid.uuid4(), None, ULong(7), b"x" * 16):
            assert peer.outcome(answer(links, wrong)) == ("accepted", "")
        assert peer.outcome(peer.transfer(0, b"no message")) == ("accepted", "")
        assert not call.done()
        answer(links, known_by, Int(1), settled=True)
        answer(links, known_by, Int(2), settled=True)
        assert call.result(10).body["status"] == 1
        call = calling()
        answer(links, links.receive().properties["correlation_id"], "soon", settled=True)
        assert call.result(10).status == 400


def test_with_proton(shared_hub: HubInThread, device_id: str, calling: Calling) -> None:
    from proton import Message, int32, symbol

    connection = device_connection(shared_hub, device_id)
    try:
        sender = connection.create_sender(f"/devices/{device_id}/twin")
        receiver = connection.create_receiver(f"/devices/{device_id}/twin", credit=10)

        def ask(operation: str, resource: str = "", body: bytes = b"") -> Received:
            asked = Message(body=body, inferred=True, correlation_id="c")
            asked.annotations = {symbol("operation"): operation, symbol("resource"): resource}
            sender.send(asked)
            return Received(receiver)

        patched = ask("PATCH", REPORTED, b'{"by":"proton"}').message
        assert (patched.annotations["status"], patched.annotations["version"]) == (int32(204), 2)
        assert isinstance(patched.annotations["status"], int32)
        assert json.loads(ask("GET").body)["reported"]["by"] == "proton"
        assert ask("PUT", DESIRED).message.annotations["status"] == 200
        set_desired(shared_hub, device_id, {"n": 1})
        assert json.loads(Received(receiver).body) == {"n": 1, "$version": 2}
        answers = connection.create_sender(f"/devices/{device_id}/methods/devicebound")
        calls = connection.create_receiver(f"/devices/{device_id}/methods/devicebound", credit=10)
        call: Future[Any] = calling(payload=[1], connectTimeoutInSeconds=10)
        asked = Received(calls)
        answers.send(
            Message(
                body=asked.body,
                inferred=True,
                correlation_id=asked.message.correlation_id,
                properties={"IoThub-status": int32(201)},
            )
        )
        assert call.result(10).body == {"status": 201, "payload": [1]}
    finally:
        connection.close()
