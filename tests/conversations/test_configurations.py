"""Configurations over HTTPS: kept, applied by priority, measured, taken back, taken up again after a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread


@pytest.fixture(scope="module")
def fleet() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        make_fleet(hub)
        yield hub


def make_fleet(hub: HubInThread) -> None:
    for number in range(3):
        hub.create_device(f"press-{number}")
        patch(hub, f"press-{number}", {"hall": number % 2})


def patch(hub: HubInThread, device: str, tags: Any = None, desired: Any = None) -> None:
    body = {"tags": tags or {}, "properties": {"desired": desired or {}}}
    assert request(hub, "PATCH", f"/twins/{device}?{VERSION}", body).status == 200


def configuration(condition: str = "*", priority: int = 10, **more: Any) -> dict[str, Any]:
    content = {"deviceContent": more.pop("settings", {"properties.desired.speed": {"rpm": 800}})}
    return {"content": content, "targetCondition": condition, "priority": priority, **more}


def put(hub: HubInThread, name: str, body: dict[str, Any], etag: str = "") -> Answer:
    headers = {"If-Match": etag} if etag else {}
    return request(hub, "PUT", f"/configurations/{name}?{VERSION}", {"id": name, **body}, headers=headers)


def get(hub: HubInThread, name: str) -> Any:
    return request(hub, "GET", f"/configurations/{name}?{VERSION}").body


def delete(hub: HubInThread, name: str) -> int:
    return request(hub, "DELETE", f"/configurations/{name}?{VERSION}").status


def desired(hub: HubInThread, twin: str) -> dict[str, Any]:
    """Of a twin that is not there: what no twin has."""
    answer = request(hub, "GET", f"/twins/{twin}?{VERSION}")
    section = answer.body["properties"]["desired"] if answer.status == 200 else {"no": "twin"}
    return {name: value for name, value in section.items() if not name.startswith("$")}


def becomes(hub: HubInThread, wanted: dict[str, Any]) -> None:
    assert eventually(lambda: {twin: desired(hub, twin) for twin in wanted} == wanted), {
        twin: desired(hub, twin) for twin in wanted
    }


@pytest.mark.spec("S-83", "S-87")
def test_it_is_kept_under_etags(fleet: HubInThread) -> None:
    body = configuration("", labels={"team": "ops"}, etag="*")
    made = put(fleet, "kept", body)
    assert (made.status, made.headers["etag"]) == (200, '"MQ=="')
    expected = {
        "id": "kept",
        "schemaVersion": "1.0",
        "labels": {"team": "ops"},
        "content": body["content"],
        "contentType": None,
        "targetCondition": "",
        "createdTimeUtc": made.body["createdTimeUtc"],
        "lastUpdatedTimeUtc": made.body["createdTimeUtc"],
        "priority": 10,
        "systemMetrics": {
            "results": {"targetedCount": 0, "appliedCount": 0},
            "queries": {
                "targetedCount": "",
                "appliedCount": "select deviceId from devices where configurations.[[kept]].status = 'Applied'",
            },
        },
        "metrics": {"results": {}, "queries": {}},
        "etag": "MQ==",
    }
    assert made.body == expected == get(fleet, "kept")
    again = put(fleet, "kept", body)
    assert (again.status, again.code) == (409, "ConfigurationAlreadyExists")
    changed = put(fleet, "kept", {**body, "priority": 20}, "MQ==")
    assert (changed.status, changed.body["priority"], changed.body["etag"]) == (200, 20, "Mg==")
    assert put(fleet, "kept", body, '"MQ=="').code == "PreconditionFailed"
    assert put(fleet, "kept", configuration(settings={"properties.desired.a": 1}), '"*"').status == 400
    assert put(fleet, "kept", {"priority": 5}, '"*"').body["content"] == body["content"]
    assert [each["id"] for each in request(fleet, "GET", f"/configurations/?{VERSION}&top=20").body] == ["kept"]
    assert delete(fleet, "kept") == 204
    assert delete(fleet, "kept") == 404
    assert request(fleet, "GET", f"/configurations/kept?{VERSION}").code == "ConfigurationNotFound"


@pytest.mark.spec("S-72", "S-84")
def test_of_two_the_higher_priority_is_applied_until_it_goes(fleet: HubInThread) -> None:
    patch(fleet, "press-0", desired={"own": 1, "speed": {"max": 3000}})
    put(fleet, "low", configuration("STARTSWITH(deviceId, 'press')", 1))
    low = {"speed": {"rpm": 800}}
    becomes(fleet, {"press-0": {"own": 1, "speed": {"max": 3000, "rpm": 800}}, "press-1": low, "press-2": low})
    high = configuration(
        "tags.hall = 0", 2, settings={"properties.desired.speed.rpm": 900, "properties.desired.fan": 1}
    )
    put(fleet, "high", high)
    becomes(fleet, {"press-1": low, "press-2": {"speed": {"rpm": 900}, "fan": 1}, "first-device": {}})
    assert eventually(lambda: get(fleet, "high")["systemMetrics"]["results"]["appliedCount"] == 2)
    assert get(fleet, "low")["systemMetrics"]["results"] == {"targetedCount": 3, "appliedCount": 1}
    twin = request(fleet, "GET", f"/twins/press-2?{VERSION}").body
    assert twin["configurations"] == {"high": {"status": "Applied"}, "low": {"status": "Targeted"}}
    query = {"query": get(fleet, "high")["systemMetrics"]["queries"]["appliedCount"]}
    rows = request(fleet, "POST", f"/devices/query?{VERSION}", query).body
    assert rows == [{"deviceId": "press-0"}, {"deviceId": "press-2"}]
    # what a back end changes is set right again, and a device that is for it no more loses it
    patch(fleet, "press-2", desired={"fan": 0})
    becomes(fleet, {"press-2": {"speed": {"rpm": 900}, "fan": 1}})
    patch(fleet, "press-2", {"hall": 1})
    becomes(fleet, {"press-2": low})
    assert delete(fleet, "high") == 204
    becomes(fleet, {"press-1": low, "press-2": low})
    assert put(fleet, "low", {"targetCondition": "tags.hall = 7"}, '"*"').status == 200
    becomes(fleet, {"press-0": {"own": 1}, "press-1": {}, "press-2": {}})
    delete(fleet, "low")


def test_a_new_device_is_configured_at_once(fleet: HubInThread) -> None:
    """Not only when all twins are looked at again, which is once a minute."""
    put(fleet, "at-start", configuration("STARTSWITH(deviceId, 'new')", settings={"properties.desired.a": 1}))
    assert eventually(lambda: get(fleet, "at-start")["systemMetrics"]["results"]["targetedCount"] == 0)
    began = fleet.clock.monotonic()
    fleet.create_device("new-alone")
    becomes(fleet, {"new-alone": {"a": 1}})
    records = [{"id": f"new-{number}", "importMode": "create"} for number in range(50)]
    assert request(fleet, "POST", f"/devices?{VERSION}", records).status == 200
    becomes(fleet, {f"new-{number}": {"a": 1} for number in (0, 25, 49)})
    assert fleet.clock.monotonic() - began < fleet.settings.limits.resolve().configuration_period
    delete(fleet, "at-start")


def test_of_modules(fleet: HubInThread) -> None:
    identity = {"deviceId": "press-1", "moduleId": "vision"}
    assert request(fleet, "PUT", f"/devices/press-1/modules/vision?{VERSION}", identity).status == 200
    condition = "from devices.modules where moduleId = 'vision'"
    body = {"content": {"moduleContent": {"properties.desired.zoom": 2}}, "targetCondition": condition, "priority": 1}
    queries = put(fleet, "zoom", body).body["systemMetrics"]["queries"]
    assert queries["targetedCount"] == f"select deviceId, moduleId {condition}"
    becomes(fleet, {"press-1/modules/vision": {"zoom": 2}, "press-1": {}})
    rows = request(fleet, "POST", f"/devices/query?{VERSION}", {"query": queries["targetedCount"]}).body
    assert rows == [identity]
    delete(fleet, "zoom")
    becomes(fleet, {"press-1/modules/vision": {}})


@pytest.mark.spec("S-85")
def test_metrics_and_queries_that_are_tested(fleet: HubInThread) -> None:
    halls = {"even": "SELECT deviceId FROM devices WHERE tags.hall = 0", "all": "SELECT COUNT() AS n FROM devices"}
    put(fleet, "measured", configuration("", metrics={"queries": halls}))
    even = sum(request(fleet, "GET", f"/twins/press-{each}?{VERSION}").body["tags"] == {"hall": 0} for each in range(3))
    assert get(fleet, "measured")["metrics"] == {"queries": halls, "results": {"even": even, "all": 1}}
    delete(fleet, "measured")
    asked = {"targetCondition": "tags.hall =", "customMetricQueries": {"good": halls["all"], "bad": "SELECT"}}
    tested = request(fleet, "POST", f"/configurations/testQueries?{VERSION}", asked)
    assert tested.status == 200
    assert "character" in tested.body["targetConditionError"]
    assert "character" in tested.body["customMetricQueryErrors"].pop("bad")
    assert tested.body["customMetricQueryErrors"] == {}
    fine = request(fleet, "POST", f"/configurations/testQueries?{VERSION}", {"targetCondition": "tags.hall = 3"})
    assert fine.body == {"targetConditionError": None, "customMetricQueryErrors": {}}


@pytest.mark.spec("S-86")
def test_content_applied_to_the_modules_of_one_device(fleet: HubInThread) -> None:
    fleet.create_device("gateway")
    content = {"one": {"properties.desired": {"a": 1}}, "two": {"properties.desired.b.c": 2}}
    path = f"/devices/gateway/applyConfigurationContent?{VERSION}"
    assert request(fleet, "POST", path, {"modulesContent": content}).status == 204
    content["one"] = {"properties.desired": {"z": 26}}
    assert request(fleet, "POST", path, {"modulesContent": content}).status == 204
    becomes(fleet, {"gateway/modules/one": {"z": 26}, "gateway/modules/two": {"b": {"c": 2}}})
    assert request(fleet, "POST", path, {"content": content}).status == 400
    unknown = request(fleet, "POST", path.replace("gateway", "nobody"), {"modulesContent": content})
    assert unknown.code == "DeviceNotFound"


@pytest.mark.parametrize(
    "body",
    [
        {"content": None},
        {"content": {}},
        {"content": {"deviceContent": {}}},
        {"content": {"deviceContent": {"properties.reported.a": 1}}},
        {"content": {"deviceContent": {"properties.desired.a": 1, "properties.desired.a.b": 2}}},
        {"content": {"deviceContent": {"properties.desired.": 1}}},
        {"content": {"modulesContent": {"$edgeAgent": {"properties.desired": {}}}}},
        {"targetCondition": "tags.hall ="},
        {"targetCondition": "from devices.modules where moduleId = 'x'"},
        {"priority": -1},
        {"metrics": {"queries": {"x": "SELECT"}}},
        {"metrics": {"queries": {str(number): "SELECT * FROM devices" for number in range(6)}}},
        {"id": "other"},
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing(fleet: HubInThread, body: dict[str, Any]) -> None:
    refused = put(fleet, "wrong", {**configuration(), **body})
    assert (refused.status, refused.code) == (400, "ArgumentInvalid")
    assert request(fleet, "GET", f"/configurations/wrong?{VERSION}").status == 404


def test_ids_and_who_may(fleet: HubInThread) -> None:
    for name in ("Upper", "with%20space", "a" * 129):
        assert put(fleet, name, configuration() | {"id": None}).status == 400
    asked = ("iothubowner", "service", "registryReadWrite", "registryRead", "device")
    reading = [request(fleet, "GET", f"/configurations?{VERSION}", policy=each).status for each in asked]
    removing = [request(fleet, "DELETE", f"/configurations/x?{VERSION}", policy=each).status for each in asked]
    assert (reading, removing) == ([200, 200, 200, 200, 401], [404, 401, 404, 401, 401])


def test_what_it_set_is_taken_back_after_a_restart(tmp_path: Path) -> None:
    with HubInThread(tmp_path) as hub:
        make_fleet(hub)
        put(hub, "tune", configuration())
        put(hub, "over", configuration("tags.hall = 1", 20, settings={"properties.desired.fan": 1}))
        tuned = {"speed": {"rpm": 800}}
        becomes(hub, {"press-0": tuned, "press-1": {"fan": 1}, "first-device": tuned})
        delete(hub, "over")
    with HubInThread(tmp_path, hub.address) as hub:
        becomes(hub, {"press-0": tuned, "press-1": tuned})
        delete(hub, "tune")
        becomes(hub, {"press-0": {}, "press-1": {}, "first-device": {}})
        put(hub, "tune", configuration(settings={"properties.desired.other": 1}))
        becomes(hub, {"press-0": {"other": 1}})
