"""Unmodified Node clients: azure-iothub, azure-iot-device over its transports, @azure/event-hubs."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from compatibility.test_python_events import EVENTS, partition_of, send, wait_until
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

TRANSPORTS = ["amqp", "websocket"]


@pytest.fixture(scope="module")
def filled() -> Iterator[HubInThread]:
    """A hub of two partitions and a second consumer group, with 30 messages of one device; tests only read it."""
    with HubInThread(events=EVENTS) as hub, hub.trusted():
        send(hub, range(30))
        yield hub


def test_the_registry(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    done = node("registry.js", "all", shared_hub.connection_string, device_id)
    assert done["created"] == [device_id, "enabled", "new", "Disconnected"]
    assert done["keys"] == [b64encode(each * 32).decode() for each in (b"p", b"s")]
    assert done["etagKept"]
    assert done["updated"] == ["disabled", "lost", True]
    assert done["statistics"]["disabledDeviceCount"] == 1
    assert device_id in done["listed"]
    assert done["twice"] == "DeviceAlreadyExistsError"
    assert (done["gone"], done["goneTwice"]) == ("DeviceNotFoundError", "DeviceNotFoundError")


def test_devices_in_bulk(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    done = node("registry.js", "bulk", shared_hub.connection_string, device_id)
    assert done["successful"] == [True, False, True, False, True, True]
    assert (done["again"], done["stale"]) == (["DeviceAlreadyExists"], ["PreconditionFailed"] * 3)
    assert (done["keys"], done["gone"]) == (3, "DeviceNotFoundError")


def test_a_policy_without_the_permission(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    shared_hub.create_device(device_id)
    done = node("registry.js", "refused", shared_hub.policy_connection_string("registryRead"), device_id)
    assert done == {"name": "UnauthorizedError"}


@pytest.mark.spec("D-ND7", "D-ND10")
@pytest.mark.parametrize("transport", ["mqtt", "mqtt-ws", "amqp", "amqp-ws", "http"])
def test_a_device_sends(shared_hub: HubInThread, device_id: str, node: Any, transport: str) -> None:
    node("device.js", "send", transport, shared_hub.create_device(device_id))
    events = shared_hub.wait_for_events(2, device=device_id)
    properties = {"alarm": "high temp", "plain": "value"} | ({} if transport == "http" else {"a/b": "c&d=e+f g"})
    assert (events[0]["body"], events[0]["properties"]) == ('{"temperature":21}', properties)
    system = events[0]["system_properties"]
    assert (system["message_id"], system["correlation_id"]) == ("4a2c4c1e-9d4b-4f0f-8f6e-0a4f5f0f7d11", "c-1")
    assert events[0]["annotations"]["dt-subject"] == "thermostat1"
    assert (system["content_type"], system["content_encoding"]) == ("application/json", "utf-8")
    assert b64decode(events[1]["body_base64"]) == bytes((0, 1, 254, 255))


def test_a_device_sends_a_batch(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    node("device.js", "batch", "http", shared_hub.create_device(device_id))
    events = shared_hub.wait_for_events(3, device=device_id)
    assert [event["body"] for event in events] == ["batch 1", "batch 2", "batch 3"]
    assert [event["properties"] for event in events] == [{"n": "1"}, {"n": "2"}, {"n": "3"}]


@pytest.mark.spec("D-ND17")
@pytest.mark.parametrize("transport", ["mqtt", "amqp", "http"])
def test_a_device_of_a_name_that_is_encoded(shared_hub: HubInThread, node: Any, transport: str) -> None:
    device_id = f"a!b'(c)*d-{transport}"
    node("device.js", "reconnect", transport, shared_hub.create_device(device_id))
    events = shared_hub.wait_for_events(2, device=quote(device_id))
    assert [event["body"] for event in events] == ["before", "after"]


@pytest.mark.parametrize("transport", ["mqtt", "mqtt-ws", "amqp"])
def test_a_device_connects_again(shared_hub: HubInThread, device_id: str, node: Any, transport: str) -> None:
    node("device.js", "reconnect", transport, shared_hub.create_device(device_id))
    events = shared_hub.wait_for_events(2, device=device_id)
    assert [event["body"] for event in events] == ["before", "after"]


@pytest.mark.spec("D-ND8")
@pytest.mark.parametrize("transport", ["mqtt", "mqtt-ws", "amqp", "http"])
def test_a_wrong_key_is_refused(shared_hub: HubInThread, device_id: str, node: Any, transport: str) -> None:
    parts = sas.parse_connection_string(shared_hub.create_device(device_id)).parts
    wrong = f"HostName={parts['HostName']};DeviceId={device_id};SharedAccessKey={b64encode(b'wrong' * 7).decode()}"
    assert node("device.js", "refused", transport, wrong) == {"name": "UnauthorizedError"}
    assert "signature matches neither key" in shared_hub.refusals(device_id, 1)[0].reason


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_hub_and_partition_properties(filled: HubInThread, node: Any, transport: str) -> None:
    partition = partition_of(filled)
    done = _events(filled, node, "properties", transport, partition=partition)
    assert (done["hub"]["name"], done["hub"]["partitionIds"]) == ("hubkeep-events", ["0", "1"])
    assert done["partition"]["partitionId"] == partition
    assert (done["partition"]["beginningSequenceNumber"], done["partition"]["lastEnqueuedSequenceNumber"]) == (0, 29)
    assert done["partition"]["isEmpty"] is False


@pytest.mark.parametrize(("transport", "group"), [("amqp", "$Default"), ("websocket", "analytics")])
def test_every_position(filled: HubInThread, node: Any, transport: str, group: str) -> None:
    done = _events(filled, node, "positions", transport, partition=partition_of(filled), count=30, group=group)
    assert done["bodies"] == [f"m{n}" for n in range(30)]
    assert done["sequenceNumbers"] == list(range(30))
    assert done["properties"] == {"n": "0"}
    assert done["systemProperties"]["iothub-connection-device-id"] == "press-07"
    assert done["systemProperties"]["iothub-message-source"] == "Telemetry"
    assert (done["offset"], done["offsetInclusive"]) == ("m6", "m5")
    assert (done["sequence"], done["sequenceInclusive"]) == ("m11", "m10")
    assert done["time"] == "m0"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_latest(shared_hub: HubInThread, node: Any, transport: str) -> None:
    send(shared_hub, range(1))
    partition = partition_of(shared_hub)
    readers = shared_hub.hub.event_readers
    with node.started("events.js", *_arguments(shared_hub, "latest", transport, partition=partition, count=3)) as wait:
        wait_until(lambda: shared_hub.hub.event_readers > readers)
        send(shared_hub, range(100, 103))
        assert wait() == {"bodies": ["m100", "m101", "m102"]}
    wait_until(lambda: shared_hub.hub.event_readers == readers)


def test_a_higher_owner_level_takes_the_partition(filled: HubInThread, node: Any) -> None:
    done = _events(filled, node, "stolen", "amqp", partition=partition_of(filled))
    assert done == {"code": "ReceiverDisconnectedError", "body": "m0"}


def test_who_may_not_read(filled: HubInThread, node: Any) -> None:
    wrong = filled.events_connection_string.replace("SharedAccessKey=", "SharedAccessKey=x")
    assert node("events.js", "refused", "amqp", wrong)["code"] == "UnauthorizedError"


def test_the_development_emulator_without_tls(node: Any) -> None:
    with HubInThread(listeners={"plain_amqp_port": 5672}) as hub:
        send(hub, range(3))
        connection_string = f"{hub.events_connection_string};UseDevelopmentEmulator=true"
        done = node("events.js", "properties", "amqp", connection_string, json.dumps({"partition": partition_of(hub)}))
        assert done["partition"]["lastEnqueuedSequenceNumber"] == 2


def _arguments(hub: HubInThread, act: str, transport: str, **options: Any) -> tuple[str, ...]:
    return act, transport, hub.events_connection_string, json.dumps(options)


def _events(hub: HubInThread, node: Any, act: str, transport: str, **options: Any) -> Any:
    return node("events.js", *_arguments(hub, act, transport, **options))
