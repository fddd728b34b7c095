"""The hub's own events as unmodified readers get them: azure-eventhub, @azure/event-hubs, and a monitor on uamqp."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uamqp
from uamqp.authentication import SASLPlain, SASTokenAuth

from compatibility.test_python_events import consumer, read
from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

DEVICE = "press-07"
OPERATIONS = ("createDeviceIdentity", "createDeviceIdentity", "updateTwin", "replaceTwin", "deleteDeviceIdentity")
WHERE = {"partition_id": "0", "starting_position": "-1"}


@pytest.fixture(scope="module")
def told() -> Iterator[HubInThread]:
    """A hub that has told of a device, its module and their twins; tests only read it."""
    sources = ["deviceLifecycleEvents", "twinChangeEvents"]
    with HubInThread(events={"partitions": 1, "sources": sources}) as hub, hub.trusted():
        twin = {"tags": {"hall": 3}, "properties": {"desired": {"rpm": 800}}}
        for method, path, body in (
            ("PUT", f"/devices/{DEVICE}", {"deviceId": DEVICE}),
            ("PUT", f"/devices/{DEVICE}/modules/vision", {"deviceId": DEVICE, "moduleId": "vision"}),
            ("PATCH", f"/twins/{DEVICE}", twin),
            ("PUT", f"/twins/{DEVICE}/modules/vision", twin),
            ("DELETE", f"/devices/{DEVICE}/modules/vision", None),
        ):
            headers = {"If-Match": "*"} if method == "DELETE" else {}
            assert request(hub, method, f"{path}?{VERSION}", body, headers=headers).status in {200, 204}
        hub.wait_for_events(len(OPERATIONS), device=DEVICE)
        yield hub


@pytest.mark.spec("S-126")
def test_in_python(told: HubInThread) -> None:
    events = [each for each in read(consumer(told), 6, **WHERE) if each.properties[b"deviceId"] == DEVICE.encode()]
    assert [each.properties[b"opType"].decode() for each in events] == list(OPERATIONS)
    assert [each.properties.get(b"moduleId") for each in events] == [None, b"vision", None, b"vision", b"vision"]
    update, replaced = events[2], events[3]
    assert update.properties[b"iothub-message-schema"] == b"twinChangeNotification"
    assert update.properties[b"hubName"] == told.host_name.encode()
    assert update.content_type == "application/json"
    assert len({each.correlation_id for each in events}) == len(events)
    system = update.system_properties
    assert system[b"iothub-message-source"] == b"twinChangeEvents"
    assert system[b"iothub-connection-device-id"] == DEVICE.encode()
    assert system[b"content-encoding"] == b"utf-8"
    assert system[b"user-id"] == told.host_name.encode()
    assert isinstance(system[b"iothub-enqueuedtime"], int)
    assert replaced.system_properties[b"iothub-connection-module-id"] == b"vision"
    body = update.body_as_json()
    assert (body["version"], body["tags"], body["properties"]["desired"]["rpm"]) == (3, {"hall": 3}, 800)
    assert replaced.body_as_json()["moduleId"] == "vision"


@pytest.mark.spec("S-126")
def test_in_node(told: HubInThread, node: Any) -> None:
    options = json.dumps({"partition": "0", "count": 6})
    found = node("events.js", "everything", "amqp", told.events_connection_string, options)
    events = [each for each in found if each["properties"]["deviceId"] == DEVICE]
    assert [each["properties"]["opType"] for each in events] == list(OPERATIONS)
    update = events[2]
    assert update["body"]["properties"]["desired"]["rpm"] == 800  # this client reads JSON by itself
    assert update["properties"]["iothub-message-schema"] == "twinChangeNotification"
    assert update["systemProperties"]["iothub-message-source"] == "twinChangeEvents"
    assert update["systemProperties"]["iothub-connection-device-id"] == DEVICE
    assert events[3]["systemProperties"]["iothub-connection-module-id"] == "vision"
    assert update["contentType"] == "application/json"


@pytest.mark.spec("S-118", "S-119")
def test_the_whole_walk_of_a_monitor_on_uamqp(told: HubInThread) -> None:
    """Redirect from the hub, management read, one receiver for each partition with the old filter on time."""
    parsed = sas.parse_connection_string(told.connection_string)
    token = sas.make(told.host_name, parsed.key, int(time.time()) + 600, "iothubowner")
    name = told.host_name.partition(".")[0]
    plain = SASLPlain(told.host_name, f"iothubowner@sas.root.{name}", token)
    asks = uamqp.ReceiveClient(f"amqps://{told.host_name}/messages/events/$management", auth=plain)
    with pytest.raises(uamqp.errors.LinkRedirect) as redirected:
        asks.receive_message_batch(max_batch_size=1)
    asks.close()
    redirect = redirected.value
    entity = redirect.address.decode().removeprefix("amqps://").split("/")[1]
    where = f"{redirect.hostname.decode()}/{entity}"
    assert (where, redirect.port) == (f"{told.host_name}/hubkeep-events", 5671)

    text = told.connection_string.partition("SharedAccessKey=")[2]

    def fresh_auth() -> SASTokenAuth:
        return SASTokenAuth.from_shared_access_key(f"sb://{where}", "iothubowner", text)

    reads = uamqp.AMQPClient(f"amqps://{where}", auth=fresh_auth())
    reads.open()
    answer = reads.mgmt_request(
        uamqp.Message(application_properties={"name": entity}),
        b"READ",
        op_type=b"com.microsoft:eventhub",
        status_code_field=b"status-code",
        description_fields=b"status-description",
        timeout=10_000,
    ).get_data()
    reads.close()
    assert (answer[b"partition_count"], answer[b"partition_ids"]) == (1, [b"0"])

    since = int(time.time() * 1000) - 600_000
    source = uamqp.address.Source(f"amqps://{where}/ConsumerGroups/$Default/Partitions/0")
    source.set_filter(f"amqp.annotation.x-opt-enqueuedtimeutc > {since}".encode())
    receiver = uamqp.ReceiveClient(source, auth=fresh_auth(), timeout=10_000, prefetch=300)
    events = receiver.receive_message_batch(max_batch_size=6, timeout=10_000)
    receiver.close()
    operations = [each.application_properties[b"opType"].decode() for each in events if _is_of(each, DEVICE)]
    assert operations == list(OPERATIONS)


def _is_of(event: Any, device: str) -> bool:
    return bool(event.annotations[b"iothub-connection-device-id"] == device.encode())
