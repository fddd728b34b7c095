"""Edge deployments over HTTPS: applied to the modules of edge devices, layered, measured, taken back."""

from collections.abc import Iterator
from typing import Any

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import eventually
from conversations.test_configurations import becomes, delete, get, patch, put
from hubkeep.testing import HubInThread


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        hub.create_device("no-edge")
        for name in ("edge-1", "edge-2"):
            body = {"deviceId": name, "capabilities": {"iotEdge": True}}
            assert request(hub, "PUT", f"/devices/{name}?{VERSION}", body).status == 200
            patch(hub, name, {"of": name})
        yield hub


def whole(desired: dict[str, Any]) -> dict[str, Any]:
    return {"properties.desired": desired}


AGENT = {"schemaVersion": "1.1", "modules": {"sensor": {"version": "1.0"}}}
HUB = {"routes": {"up": "FROM /messages/* INTO $upstream"}}


def base(condition: str = "*", priority: int = 1, **modules: dict[str, Any]) -> dict[str, Any]:
    content = {
        "$edgeAgent": whole(AGENT),
        "$edgeHub": whole(HUB),
        **{name: whole(each) for name, each in modules.items()},
    }
    return {"content": {"modulesContent": content}, "targetCondition": condition, "priority": priority}


def test_it_is_kept_with_the_metrics_of_a_deployment(hub: HubInThread) -> None:
    wanted = base("tags.of = 'nobody'") | {"schemaVersion": "2.0"}
    made = put(hub, "kept", wanted)
    assert (made.status, made.body["content"]) == (200, wanted["content"])
    applied = (
        "select deviceId from devices.modules where moduleId = '$edgeAgent' and "
        "configurations.[[kept]].status = 'Applied'"
    )
    code = (
        f"{applied} and properties.desired.$version = properties.reported.lastDesiredVersion and "
        "properties.reported.lastDesiredStatus.code"
    )
    assert made.body["systemMetrics"] == {
        "results": {"targetedCount": 0, "appliedCount": 0, "reportedSuccessfulCount": 0, "reportedFailedCount": 0},
        "queries": {
            "targetedCount": "select deviceId from devices where capabilities.iotEdge = true and (tags.of = 'nobody')",
            "appliedCount": applied,
            "reportedSuccessfulCount": f"{code} = 200",
            "reportedFailedCount": f"{code} != 200",
        },
    }
    for query in made.body["systemMetrics"]["queries"].values():  # as clients ask them, word by word
        assert request(hub, "POST", f"/devices/query?{VERSION}", {"query": query}).body == []
    changed = {"modulesContent": {**wanted["content"]["modulesContent"], "more": whole({})}}
    assert put(hub, "kept", {**wanted, "content": changed}, '"*"').status == 400
    assert put(hub, "kept", {**wanted, "priority": 3}, '"*"').body["priority"] == 3
    assert (
        put(hub, "kept", {"targetCondition": "", "priority": 3}, '"*"').body["systemMetrics"]["queries"][
            "targetedCount"
        ]
        == ""
    )
    assert delete(hub, "kept") == 204


def test_modules_of_edge_devices_get_it_and_lose_it(hub: HubInThread) -> None:
    put(hub, "one", base(sensor={"rate": 5, "unit": "C"}))
    for edge in ("edge-1", "edge-2"):
        becomes(hub, {f"{edge}/modules/$edgeAgent": AGENT, f"{edge}/modules/$edgeHub": HUB})
        becomes(hub, {f"{edge}/modules/sensor": {"rate": 5, "unit": "C"}})
    assert request(hub, "GET", f"/devices/no-edge/modules?{VERSION}").body == []
    assert eventually(lambda: get(hub, "one")["systemMetrics"]["results"]["appliedCount"] == 2)
    agent = request(hub, "GET", f"/twins/edge-1/modules/$edgeAgent?{VERSION}").body
    assert agent["configurations"] == {"one": {"status": "Applied"}}
    # one of a higher priority takes its place: all that a module desires is the newer one's
    put(hub, "two", base("tags.of = 'edge-1'", 2, other={"a": 1}))
    becomes(hub, {"edge-1/modules/sensor": {}, "edge-1/modules/other": {"a": 1}})
    becomes(hub, {"edge-2/modules/sensor": {"rate": 5, "unit": "C"}})
    assert eventually(
        lambda: (
            get(hub, "one")["systemMetrics"]["results"]
            == get(hub, "two")["systemMetrics"]["results"] | {"targetedCount": 2}
        )
    )
    delete(hub, "two")
    becomes(hub, {"edge-1/modules/sensor": {"rate": 5, "unit": "C"}, "edge-1/modules/other": {}})
    delete(hub, "one")
    gone: dict[str, Any] = {f"edge-1/modules/{each}": {} for each in ("$edgeAgent", "$edgeHub", "sensor", "other")}
    becomes(hub, gone)


def test_layers_are_laid_upon_the_base_in_the_order_of_their_priority(hub: HubInThread) -> None:
    put(
        hub, "under", layered({"properties.desired.modules.under": {"version": "0"}}, 1)
    )  # below the base: no part of it
    put(hub, "base", base("tags.of = 'edge-1'", 5))
    put(hub, "low", layered({"properties.desired.modules.low": {"version": "2.0"}}, 6, rate=1))
    put(hub, "high", layered({"properties.desired.modules.high": {"version": "3.0"}}, 7, rate=2))
    modules = {**AGENT["modules"], "low": {"version": "2.0"}, "high": {"version": "3.0"}}
    becomes(hub, {"edge-1/modules/$edgeAgent": {**AGENT, "modules": modules}, "edge-1/modules/extra": {"rate": 2}})
    agent = f"/twins/edge-1/modules/$edgeAgent?{VERSION}"
    statuses = {name: {"status": "Applied"} for name in ("high", "low", "base")} | {"under": {"status": "Targeted"}}
    assert eventually(lambda: request(hub, "GET", agent).body["configurations"] == statuses)
    delete(hub, "high")
    becomes(hub, {"edge-1/modules/extra": {"rate": 1}})
    assert "high" not in request(hub, "GET", agent).body["properties"]["desired"]["modules"]
    # what the agent reports of it is counted
    desired = request(hub, "GET", agent).body["properties"]["desired"]["$version"]
    record = {
        "id": "edge-9",
        "capabilities": {"iotEdge": True},
        "tags": {"of": "edge-1"},
    }
    assert request(hub, "POST", f"/devices?{VERSION}", [record]).status == 200
    assert desired > 1
    for name in ("under", "base", "low"):
        delete(hub, name)
    becomes(hub, {"edge-1/modules/$edgeAgent": {}, "edge-9/modules/$edgeAgent": {}})


def layered(agent: dict[str, Any], priority: int, rate: int = 0) -> dict[str, Any]:
    content = {"$edgeAgent": agent, "extra": {"properties.desired.rate": rate}}
    return {"content": {"modulesContent": content}, "targetCondition": "tags.of = 'edge-1'", "priority": priority}


@pytest.mark.parametrize(
    "modules",
    [
        {},
        {"$edgeAgent": whole(AGENT)},
        {"$edgeAgent": whole(AGENT), "$edgeHub": {"properties.reported": {}}},
        {"$edgeAgent": whole(AGENT), "$edgeHub": {"properties.desired": 5}},
        {"$edgeAgent": whole(AGENT) | {"properties.desired.modules": {}}, "$edgeHub": whole(HUB)},
        {"$edgeAgent": whole({"bad key": 1}), "$edgeHub": whole(HUB)},
        {"$edgeAgent": whole(AGENT), "$edgeHub": whole({"a": ["x" * 4000] * 10})},
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing(hub: HubInThread, modules: dict[str, Any]) -> None:
    body = {"content": {"modulesContent": modules}, "targetCondition": "*", "priority": 1}
    refused = put(hub, "wrong", body)
    assert (refused.status, refused.code) == (400, "ArgumentInvalid")
    assert request(hub, "GET", f"/configurations/wrong?{VERSION}").status == 404
    if modules:
        path = f"/devices/edge-2/applyConfigurationContent?{VERSION}"
        assert request(hub, "POST", path, {"modulesContent": modules}).status == 400


@pytest.mark.spec("S-86")
def test_content_applied_to_one_edge_device(hub: HubInThread) -> None:
    path = f"/devices/edge-2/applyConfigurationContent?{VERSION}"
    content = {"$edgeAgent": whole(AGENT), "$edgeHub": whole(HUB), "sensor": whole({"rate": 9})}
    assert request(hub, "POST", path, {"modulesContent": content}).status == 204
    becomes(hub, {"edge-2/modules/$edgeAgent": AGENT, "edge-2/modules/sensor": {"rate": 9}})
    module = request(hub, "GET", f"/devices/edge-2/modules/sensor?{VERSION}").body
    assert module["authentication"]["type"] == "sas"
