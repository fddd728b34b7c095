"""The hub's own events on the built-in endpoint: what is told of what, in which form, and how it is switched."""

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from conversations.amqp_peer import AmqpPeer
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import MqttPeer, publish
from conversations.test_connection_state import connected, wait_state
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp import Symbol, Timestamp

ALL: Final = (
    "deviceLifecycleEvents",
    "twinChangeEvents",
    "digitalTwinChangeEvents",
    "deviceConnectionStateEvents",
    "deviceJobLifecycleEvents",
)
REPORT: Final = "$iothub/twin/PATCH/properties/reported/?$rid=1"
FRESH: Final = {"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"}, "$version": 1}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """All sources but that of digital twins are on; tests have devices of their own."""
    with HubInThread(events={"sources": [each for each in ALL if each != "digitalTwinChangeEvents"]}) as running:
        yield running


def put(hub: HubInThread, device: str, module: str = "", **body: Any) -> Answer:
    path = f"/devices/{device}" + (f"/modules/{module}" if module else "")
    ids = {"deviceId": device, **({"moduleId": module} if module else {})}
    answer = request(hub, "PUT", f"{path}?{VERSION}", {**ids, **body})
    assert answer.status == 200
    return answer


def delete(hub: HubInThread, path: str) -> None:
    assert request(hub, "DELETE", f"{path}?{VERSION}", headers={"If-Match": "*"}).status == 204


def patch(hub: HubInThread, twin: str, method: str = "PATCH", **parts: Any) -> Any:
    body = {name: value for name, value in parts.items() if name == "tags"}
    if "desired" in parts:
        body["properties"] = {"desired": parts["desired"]}
    answer = request(hub, method, f"/twins/{twin}?{VERSION}", body)
    assert answer.status == 200
    return answer.body


def switch(hub: HubInThread, source: str, *, enabled: bool) -> Answer:
    return request(hub, "PUT", f"/api/events/sources/{source}", {"enabled": enabled})


def told(hub: HubInThread, count: int, device: str, source: str) -> list[dict[str, Any]]:
    """The first ``count`` events of one source about one device, their bodies read."""
    events: list[dict[str, Any]] = []
    for wanted in range(count, 1000):
        events = [each for each in hub.wait_for_events(wanted, device=device) if each["source"] == source]
        if len(events) >= count:
            break
    return [{**each, "body": json.loads(each["body"])} for each in events]


def words(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["properties"]["opType"], each["properties"].get("moduleId", "")) for each in events]


# -- what is told of what ---------------------------------------------------------------------------------------------


@pytest.mark.spec("S-126")
def test_identities_that_come_and_go(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    put(hub, device_id, "vision")
    patch(hub, device_id, tags={"hall": 3}, desired={"rpm": 800})
    twin = request(hub, "GET", f"/twins/{device_id}?{VERSION}").body
    delete(hub, f"/devices/{device_id}")
    events = told(hub, 4, device_id, "deviceLifecycleEvents")
    assert words(events) == [
        ("createDeviceIdentity", ""),
        ("createDeviceIdentity", "vision"),
        ("deleteDeviceIdentity", "vision"),
        ("deleteDeviceIdentity", ""),
    ]
    assert {each["properties"]["iothub-message-schema"] for each in events} == {"deviceLifecycleNotification"}
    created, module, _, deleted = (each["body"] for each in events)
    fresh = {"etag": "AAAAAAAAAAE=", "version": 2, "properties": {"desired": FRESH, "reported": FRESH}}
    assert created == {"deviceId": device_id, **fresh}
    assert module == {"deviceId": device_id, "moduleId": "vision", **fresh}
    assert deleted == {name: twin[name] for name in ("deviceId", "etag", "version", "tags", "properties")}


def test_identities_made_and_deleted_in_bulk(hub: HubInThread, device_id: str) -> None:
    def record(mode: str, **more: Any) -> dict[str, Any]:
        return {"id": device_id, "importMode": mode, **more}

    def bulk(*records: dict[str, Any]) -> None:
        assert request(hub, "POST", f"/devices?{VERSION}", list(records)).status == 200

    bulk(record("create", tags={"hall": 3}), record("create", moduleId="m"), record("create", id=f"{device_id}-edge"))
    bulk(record("updateTwin", tags={"hall": 4}), record("update", moduleId="m"))
    bulk(record("delete"))
    made, module, *_, gone = told(hub, 4, device_id, "deviceLifecycleEvents")
    assert words([made, module, gone]) == [
        ("createDeviceIdentity", ""),
        ("createDeviceIdentity", "m"),
        ("deleteDeviceIdentity", ""),
    ]
    assert (made["body"]["tags"], gone["body"]["tags"]) == ({"hall": 3}, {"hall": 4})
    (change,) = told(hub, 1, device_id, "twinChangeEvents")
    assert (change["properties"]["opType"], change["body"]) == ("updateTwin", {"version": 3, "tags": {"hall": 4}})


def test_an_edge_device_comes_with_its_modules(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id, capabilities={"iotEdge": True})
    events = told(hub, 3, device_id, "deviceLifecycleEvents")
    assert [each["properties"].get("moduleId") for each in events] == [None, "$edgeAgent", "$edgeHub"]


@pytest.mark.spec("S-126")
def test_what_changes_in_a_twin_with_what_is_known_of_that_alone(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    patch(hub, device_id, desired={"rpm": 700, "fan": {"on": True, "speed": 1}})
    after = patch(hub, device_id, tags={"wave": 2}, desired={"rpm": 800, "fan": {"speed": None}})
    update = told(hub, 2, device_id, "twinChangeEvents")[1]
    assert update["properties"]["opType"] == "updateTwin"
    assert update["properties"]["iothub-message-schema"] == "twinChangeNotification"
    known = after["properties"]["desired"]["$metadata"]
    mark = {name: known[name] for name in ("$lastUpdated", "$lastUpdatedVersion")}
    assert mark["$lastUpdatedVersion"] == 3
    assert update["body"] == {
        "version": 4,
        "tags": {"wave": 2},
        "properties": {
            "desired": {
                "rpm": 800,
                "fan": {"speed": None},
                "$metadata": {**mark, "rpm": mark, "fan": mark},
                "$version": 3,
            }
        },
    }


@pytest.mark.spec("S-126")
def test_a_twin_that_is_replaced_is_told_whole(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    put(hub, device_id, "m")
    twin = patch(hub, f"{device_id}/modules/m", "PUT", tags={"a": 1}, desired={"x": {"y": 1}})
    (replaced,) = told(hub, 1, device_id, "twinChangeEvents")
    assert words([replaced]) == [("replaceTwin", "m")]
    names = ("deviceId", "moduleId", "etag", "version", "tags", "properties")
    assert replaced["body"] == {name: twin[name] for name in names}


def test_what_a_device_reports(hub: HubInThread, device_id: str) -> None:
    with MqttPeer(hub) as peer:
        peer.send(peer.login(device_id))
        assert peer.read() == (0x20, b"\0\0")
        for number, reported in enumerate(({"level": 7, "old": 1}, {"level": 8, "old": None})):
            peer.send(publish(REPORT, json.dumps(reported).encode(), qos=0))
            body = told(hub, number + 1, device_id, "twinChangeEvents")[number]["body"]
            section = body["properties"].pop("reported")
            assert body == {"version": 3 + number, "properties": {}}
            assert (section.pop("$version"), section["$metadata"].keys()) == (
                2 + number,
                {"$lastUpdated", "level", *(["old"] if number == 0 else [])},
            )
            assert {name: value for name, value in section.items() if name != "$metadata"} == reported


def test_the_digital_twin_is_told_as_a_json_patch(device_id: str) -> None:
    with HubInThread(events={"sources": ["digitalTwinChangeEvents"]}) as hub:
        put(hub, device_id)
        patch(hub, device_id, desired={"thermostat1": {"__t": "c"}})
        patch(hub, device_id, tags={"no": "matter"})
        patch(hub, device_id, desired={"thermostat1": {"setPoint": 21}})
        acknowledged = {"thermostat1": {"__t": "c", "setPoint": {"value": 21, "ac": 200, "av": 3}}}
        with MqttPeer(hub) as peer:
            peer.send(peer.login(device_id))
            assert peer.read() == (0x20, b"\0\0")
            peer.send(publish(REPORT, json.dumps(acknowledged).encode(), qos=0))
            events = told(hub, 3, device_id, "digitalTwinChangeEvents")
        patch(hub, device_id, desired={"thermostat1": {"setPoint": 22}})
        patch(hub, device_id, desired={"thermostat1": {"setPoint": None}})
        more = told(hub, 5, device_id, "digitalTwinChangeEvents")[3:]
    assert {each["properties"]["opType"] for each in events} == {"updateTwin"}
    assert {each["properties"]["iothub-message-schema"] for each in events} == {"digitalTwinChangeNotification"}
    assert {each["system_properties"]["content_type"] for each in events} == {"application/json-patch+json"}
    about = "/thermostat1/$metadata/setPoint"
    assert events[0]["body"] == [{"op": "add", "path": "/thermostat1", "value": {"$metadata": {}}}]
    assert events[1]["body"] == [{"op": "add", "path": about, "value": {"desiredValue": 21, "desiredVersion": 3}}]
    when = events[2]["body"][2]["value"]
    assert events[2]["body"] == [
        {"op": "add", "path": f"{about}/ackCode", "value": 200},
        {"op": "add", "path": f"{about}/ackVersion", "value": 3},
        {"op": "add", "path": f"{about}/lastUpdateTime", "value": when},
        {"op": "add", "path": "/thermostat1/setPoint", "value": 21},
    ]
    assert more[0]["body"] == [
        {"op": "replace", "path": f"{about}/desiredValue", "value": 22},
        {"op": "replace", "path": f"{about}/desiredVersion", "value": 4},
    ]
    assert more[1]["body"] == [
        {"op": "remove", "path": f"{about}/desiredValue"},
        {"op": "remove", "path": f"{about}/desiredVersion"},
    ]


@pytest.mark.spec("S-126")
@pytest.mark.parametrize("wire", ["mqtt", "amqp over a WebSocket"])
def test_connection_states_alternate_and_their_numbers_rise(hub: HubInThread, device_id: str, wire: str) -> None:
    for _ in range(2):
        with connected(hub, wire, device_id):
            wait_state(hub, device_id, "Connected")
        wait_state(hub, device_id, "Disconnected")
    with connected(hub, wire, device_id):
        wait_state(hub, device_id, "Connected")
        with connected(hub, wire, device_id):  # takes over: the device is connected all the time
            wait_state(hub, device_id, "Connected")
        wait_state(hub, device_id, "Disconnected")
    events = told(hub, 6, device_id, "deviceConnectionStateEvents")
    assert words(events) == [("deviceConnected", ""), ("deviceDisconnected", "")] * 3
    assert {each["properties"]["iothub-message-schema"] for each in events} == {"deviceConnectionStateNotification"}
    numbers = [each["body"].pop("sequenceNumber") for each in events]
    assert all(len(each) == 64 for each in numbers)
    assert numbers == sorted(set(numbers))  # as text
    assert [each["body"] for each in events] == [{}] * 6
    assert (
        sum(each["source"] == "deviceConnectionStateEvents" for each in hub.wait_for_events(7, device=device_id)) == 6
    )


@pytest.mark.parametrize("way", ["one", "in bulk"])
def test_a_connected_device_that_is_deleted_is_disconnected_first(hub: HubInThread, device_id: str, way: str) -> None:
    with connected(hub, "mqtt", device_id):
        wait_state(hub, device_id, "Connected")
        if way == "one":
            delete(hub, f"/devices/{device_id}")
        else:
            records = [{"id": device_id, "importMode": "delete"}]
            assert request(hub, "POST", f"/devices?{VERSION}", records).status == 200
        events = told(hub, 2, device_id, "deviceConnectionStateEvents")
    assert words(events) == [("deviceConnected", ""), ("deviceDisconnected", "")]
    in_order = [each["properties"]["opType"] for each in hub.wait_for_events(4, device=device_id)]
    assert in_order == ["createDeviceIdentity", "deviceConnected", "deviceDisconnected", "deleteDeviceIdentity"]
    put(hub, device_id)  # and one that is made anew was never connected
    with connected(hub, "mqtt", device_id):
        events = told(hub, 3, device_id, "deviceConnectionStateEvents")
    assert words(events)[2] == ("deviceConnected", "")


def test_who_comes_and_goes_within_a_moment_is_told_of_once_each(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    for _ in range(5):
        with connected(hub, "mqtt", device_id):
            pass
    events = told(hub, 2, device_id, "deviceConnectionStateEvents")
    assert words(events)[:2] == [("deviceConnected", ""), ("deviceDisconnected", "")]
    wait_state(hub, device_id, "Disconnected")


def test_each_step_of_a_job_at_a_device(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    body = {"type": "scheduleUpdateTwin", "queryCondition": f"deviceId = '{device_id}'"}
    job = f"job-{device_id}"[:100]
    assert request(hub, "PUT", f"/jobs/v2/{job}?{VERSION}", {**body, "updateTwin": {"tags": {"a": 1}}}).status == 200
    events = told(hub, 2, device_id, "deviceJobLifecycleEvents")
    assert words(events) == [("deviceJobRunning", ""), ("deviceJobCompleted", "")]
    assert {each["properties"]["iothub-message-schema"] for each in events} == {"deviceJobLifecycleNotification"}
    row = request(
        hub, "POST", f"/devices/query?{VERSION}", {"query": f"SELECT * FROM devices.jobs WHERE jobId = '{job}'"}
    )
    assert events[1]["body"] == row.body[0]
    assert (events[0]["body"]["status"], events[1]["body"]["status"]) == ("running", "completed")


def test_a_job_that_ends_before_it_was_everywhere(hub: HubInThread, device_id: str) -> None:
    put(hub, device_id)
    method = {"methodName": "reboot", "payload": None, "connectTimeoutInSeconds": 200, "responseTimeoutInSeconds": 30}
    body = {"type": "scheduleDeviceMethod", "queryCondition": f"deviceId = '{device_id}'"}
    job = f"/jobs/v2/job-{device_id}"[:100]
    assert request(hub, "PUT", f"{job}?{VERSION}", {**body, "cloudToDeviceMethod": method}).status == 200
    told(hub, 1, device_id, "deviceJobLifecycleEvents")
    assert request(hub, "POST", f"{job}/cancel?{VERSION}").status == 200
    events = told(hub, 2, device_id, "deviceJobLifecycleEvents")
    assert words(events) == [("deviceJobRunning", ""), ("deviceJobCancelled", "")]


# -- in which form ----------------------------------------------------------------------------------------------------


def test_properties_and_annotations_are_those_of_the_page_and_no_more(device_id: str) -> None:
    with HubInThread(events={"partitions": 1, "sources": ["twinChangeEvents"]}) as hub, AmqpPeer.reader(hub) as peer:
        put(hub, device_id)
        put(hub, device_id, "m")
        patch(hub, device_id, tags={"a": 1})
        patch(hub, f"{device_id}/modules/m", tags={"a": 1})
        peer.attached("hubkeep-events/ConsumerGroups/$Default/Partitions/0", handle=0, receiver=True)
        peer.credit(0, 2)
        of_device, of_module = peer.event(0), peer.event(0)
    assert {str(name): type(value) for name, value in of_device.annotations.items()} == {
        "x-opt-sequence-number": int,
        "x-opt-offset": str,
        "x-opt-enqueued-time": Timestamp,
        "iothub-enqueuedtime": Timestamp,
        "iothub-connection-device-id": str,
        "iothub-message-source": str,
    }
    assert of_module.annotations.keys() - of_device.annotations.keys() == {"iothub-connection-module-id"}
    assert of_device.annotations["iothub-message-source"] == "twinChangeEvents"
    correlations = {of_device.properties.pop("correlation_id"), of_module.properties.pop("correlation_id")}
    assert len(correlations) == 2
    assert of_device.properties == {
        "user_id": hub.host_name.encode(),  # an address has no shorter name
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }
    assert isinstance(of_device.properties["content_type"], Symbol)
    told_of_device, told_of_module = of_device.application_properties, of_module.application_properties
    assert abs(hub.clock.now() - _unix(told_of_device.pop("operationTimestamp"))) < 60
    assert told_of_device == {
        "hubName": hub.host_name,
        "deviceId": device_id,
        "opType": "updateTwin",
        "iothub-message-schema": "twinChangeNotification",
    }
    assert told_of_module.keys() - told_of_device.keys() == {"moduleId", "operationTimestamp"}
    assert of_device.data == [b'{"version":3,"tags":{"a":1}}']


def _unix(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text[:26]}Z").timestamp()


# -- how it is switched -----------------------------------------------------------------------------------------------


def test_by_default_telemetry_alone_and_the_rest_by_switching(tmp_path: Path, device_id: str) -> None:
    def seen(hub: HubInThread, count: int) -> list[tuple[str, str]]:
        events = hub.wait_for_events(count)
        return [(each["source"], each["device"]) for each in events]

    def send(hub: HubInThread) -> None:
        path = f"/devices/{device_id}/messages/events?{VERSION}"
        assert request(hub, "POST", path, b"on", policy="device").status == 204

    telemetry, lifecycle = ("Telemetry", device_id), "deviceLifecycleEvents"
    with HubInThread(tmp_path / "hub", events={"partitions": 1}) as hub:
        states = request(hub, "GET", "/api/events/sources").body
        assert states == [{"source": each, "enabled": False, "fixed": False} for each in ALL]
        put(hub, device_id)
        patch(hub, device_id, tags={"a": 1})
        send(hub)
        state = switch(hub, "DeviceLifecycleEvents", enabled=True)  # as routes spell it
        assert (state.status, state.body) == (200, {"source": lifecycle, "enabled": True, "fixed": False})
        put(hub, "other")
        patch(hub, "other", tags={"a": 1})
        assert seen(hub, 2) == [telemetry, (lifecycle, "other")]
    with HubInThread(tmp_path / "hub", hub.address, events={"partitions": 1, "sources": ["twinChangeEvents"]}) as hub:
        states = request(hub, "GET", "/api/events/sources").body
        assert [each["source"] for each in states if each["enabled"]] == [lifecycle, "twinChangeEvents"]
        refused = switch(hub, "twinChangeEvents", enabled=False)
        assert (refused.status, refused.code) == (400, "ArgumentInvalid")
        assert switch(hub, lifecycle, enabled=False).body["enabled"] is False
        put(hub, "third")
        patch(hub, "other", tags={"a": 1})
        send(hub)
        assert sorted(seen(hub, 4)[2:]) == sorted([("twinChangeEvents", "other"), telemetry])


def test_what_cannot_be_switched(shared_hub: HubInThread) -> None:
    assert switch(shared_hub, "weatherEvents", enabled=True).status == 404
    assert request(shared_hub, "PUT", "/api/events/sources/twinChangeEvents", {"on": True}).status == 400
    assert request(shared_hub, "PUT", "/api/events/sources/twinChangeEvents", b"[").status == 400
    for policy in ("service", "registryReadWrite", "device"):
        body = {"enabled": True}
        refused = request(shared_hub, "PUT", "/api/events/sources/twinChangeEvents", body, policy=policy)
        assert refused.status == 401
        assert request(shared_hub, "GET", "/api/events/sources", policy=policy).status == 401
    assert not any(each["enabled"] for each in request(shared_hub, "GET", "/api/events/sources").body)


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_what_was_connected_when_the_hub_stopped_is_told_of(tmp_path: Path, device_id: str) -> None:
    sources = {"sources": ["deviceConnectionStateEvents"]}
    with HubInThread(tmp_path / "hub", events=sources) as hub, connected(hub, "mqtt", device_id):
        wait_state(hub, device_id, "Connected")
        hub.stop()
    with HubInThread(tmp_path / "hub", hub.address, events=sources) as hub:
        events = told(hub, 2, device_id, "deviceConnectionStateEvents")
        assert words(events) == [("deviceConnected", ""), ("deviceDisconnected", "")]
