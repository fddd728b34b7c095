"""The query endpoint over HTTPS: what is found, how it is paged, what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import MqttPeer, publish, subscribe
from hubkeep.limits import QUERY_PAGE, Limit
from hubkeep.testing import HubInThread

REPORT = "$iothub/twin/PATCH/properties/reported/?$rid=1"
FLEET: dict[str, dict[str, Any]] = {
    "press-1": {"tags": {"hall": 1, "site": {"name": "it's"}}, "desired": {"rate": 5}},
    "press-2": {"tags": {"hall": "1", "none": 0}, "desired": {"rate": 6}},
    "press-3": {"tags": {"hall": 1, "site": {"name": "B"}}},
    "pump-1": {"tags": {"hall": 2}},
    "pump-2": {},
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        assert request(hub, "DELETE", f"/devices/first-device?{VERSION}").status == 204
        for device, twin in FLEET.items():
            identity = {"deviceId": device, "capabilities": {"iotEdge": device == "pump-2"}}
            assert request(hub, "PUT", f"/devices/{device}?{VERSION}", identity).status == 200
            patch: dict[str, Any] = {"tags": twin.get("tags", {})}
            if "desired" in twin:
                patch["properties"] = {"desired": twin["desired"]}
            assert request(hub, "PATCH", f"/twins/{device}?{VERSION}", patch).status == 200
        yield hub


def ask(hub: HubInThread, query: Any, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(hub, "POST", f"/devices/query?{VERSION}", {"query": query}, headers=given)


def found(hub: HubInThread, where: str) -> list[str]:
    answer = ask(hub, f"SELECT deviceId FROM devices WHERE {where}")
    assert answer.status == 200, answer.body
    return [row["deviceId"] for row in answer.body]


@pytest.mark.spec("S-60", "S-61", "S-62", "S-63", "S-64", "S-65", "S-71", "S-75")
def test_conditions(fleet: HubInThread) -> None:
    expected = {
        "tags.hall = 1": ["press-1", "press-3"],
        "tags.hall = '1'": ["press-2"],
        "tags.hall != 1": ["pump-1"],
        "NOT tags.hall = 1": ["pump-1"],
        "IS_DEFINED(tags.none)": ["press-2"],
        "tags.none = 0": ["press-2"],
        "deviceId IN ['pump-1', 'press-3', 'nobody']": ["press-3", "pump-1"],
        "deviceId NIN ['pump-1', 'press-3']": ["press-1", "press-2", "pump-2"],
        "tags.hall IN [1, 2]": ["press-1", "press-3", "pump-1"],
        "STARTSWITH(devices.deviceId, 'press')": ["press-1", "press-2", "press-3"],
        "STARTSWITH(tags.site.name, 'it')": ["press-1"],
        r"tags.site.name = 'it\'s'": ["press-1"],
        r"tags.site.name = '\u0042' AND tags.hall = 1": ["press-3"],
        "capabilities.iotEdge = true": ["pump-2"],
        "status = 'enabled' AND properties.desired.rate > 5": ["press-2"],
        "tags.hall = 2 OR properties.desired.rate = 5": ["press-1", "pump-1"],
        "deviceId = 'pump-1' OR deviceId = 'pump-2'": ["pump-1", "pump-2"],
        "connectionState = 'Disconnected' AND tags.hall = 2": ["pump-1"],
        "properties.desired.$version = 2": ["press-1", "press-2"],
        "tags.hall = null": [],
        "cloudToDeviceMessageCount > 0": [],
    }
    assert {where: found(fleet, where) for where in expected} == expected


@pytest.mark.spec("S-66", "S-67", "S-68")
def test_projections_and_groups(fleet: HubInThread) -> None:
    answer = ask(fleet, "SELECT DeviceId, tags.hall AS h FROM devices WHERE tags.hall = 2")
    assert (answer.body, answer.headers["x-ms-item-type"]) == ([{"deviceId": "pump-1", "h": 2}], "raw")
    assert ask(fleet, "SELECT COUNT() AS n FROM devices").body == [{"n": 5}]
    groups = ask(fleet, "SELECT tags.hall AS hall, COUNT() AS n FROM devices GROUP BY tags.hall").body
    assert groups == [{"hall": 1, "n": 2}, {"hall": "1", "n": 1}, {"hall": 2, "n": 1}, {"n": 1}]
    assert ask(fleet, "SELECT AVG(properties.desired.rate) AS r FROM devices").body == [{"r": 5.5}]
    whole = ask(fleet, "SELECT * FROM devices WHERE deviceId = 'press-1'")
    assert whole.headers["x-ms-item-type"] == "twin"
    assert whole.body == [request(fleet, "GET", f"/twins/press-1?{VERSION}").body]


@pytest.mark.spec("S-69")
def test_modules_tell_their_ids(fleet: HubInThread) -> None:
    rows = ask(fleet, "SELECT * FROM devices.modules WHERE deviceId = 'pump-2'").body
    assert [(row["deviceId"], row["moduleId"]) for row in rows] == [("pump-2", "$edgeAgent"), ("pump-2", "$edgeHub")]
    named = ask(fleet, "SELECT moduleId FROM devices.modules WHERE moduleId = '$edgeHub'").body
    assert named == [{"moduleId": "$edgeHub"}]


@pytest.mark.spec("S-73")
def test_two_properties_are_compared(fleet: HubInThread) -> None:
    for device, version in (("press-1", 2), ("press-2", 1), ("press-3", 1)):  # of the desired ones: 2, 2, 1
        with MqttPeer(fleet) as peer:
            peer.send(peer.login(device))
            assert peer.read() == (0x20, b"\0\0")
            peer.send(subscribe([("$iothub/twin/res/#", 0)]))
            assert peer.read()[0] == 0x90
            peer.send(publish(REPORT, b'{"lastDesiredVersion": %d}' % version, qos=0))
            assert b"/res/204/" in peer.read()[1]
    assert found(fleet, "properties.desired.$version = properties.reported.lastDesiredVersion") == [
        "press-1",
        "press-3",
    ]


@pytest.mark.spec("L-L24")
def test_bounds_of_a_query(fleet: HubInThread, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(query: str, **headers: str) -> tuple[int, str]:
        answer = ask(fleet, query, **headers)
        return answer.status, answer.code

    head = "SELECT * FROM devices WHERE "
    invalid = (400, "ArgumentInvalid")
    fits = head + "deviceId = '"
    assert ask(fleet, f"{fits}{'x' * (8 * 1024 - len(fits) - 1)}'").status == 200
    assert refused(f"{fits}{'x' * (8 * 1024 - len(fits))}'") == invalid
    # the condition itself is the first level
    assert ask(fleet, f"{head}{'(' * 15}tags.hall = 1{')' * 15}").status == 200
    assert refused(f"{head}{'(' * 16}tags.hall = 1{')' * 16}") == invalid
    assert QUERY_PAGE.value == 1000
    monkeypatch.setattr("hubkeep.connection.https.queries.QUERY_PAGE", QUERY_PAGE._replace(value=3))
    page = ask(fleet, "SELECT * FROM devices", x_ms_max_item_count="4")  # taken for the most that there may be
    assert (len(page.body), "x-ms-continuation" in page.headers) == (3, True)
    monkeypatch.setattr("hubkeep.messaging.fleet_queries.QUERY_SECONDS", Limit(0, "seconds", "a test's"))
    monkeypatch.setattr("hubkeep.messaging.fleet_queries._COUNTED_AT_ONCE", 2)
    total = "SELECT tags.hall AS hall, COUNT() AS n FROM devices GROUP BY tags.hall"
    assert refused(total) == (429, "ThrottlingException")


@pytest.mark.spec("S-58")
def test_pages(fleet: HubInThread) -> None:
    query, pages, continuation = "SELECT deviceId FROM devices", [], ""
    while True:
        more = {"x_ms_continuation": continuation} if continuation else {}
        answer = ask(fleet, query, x_ms_max_item_count="2", **more)
        pages.append([row["deviceId"] for row in answer.body])
        if "x-ms-continuation" not in answer.headers:
            break
        continuation = answer.headers["x-ms-continuation"]
        assert continuation.isascii()
        assert " " not in continuation
    assert pages == [["press-1", "press-2"], ["press-3", "pump-1"], ["pump-2"]]
    exact = ask(fleet, query, x_ms_max_item_count="5")
    assert (len(exact.body), "x-ms-continuation" in exact.headers) == (5, False)
    top = ask(fleet, "SELECT TOP 3 deviceId FROM devices", x_ms_max_item_count="2")
    rest = ask(
        fleet,
        "SELECT TOP 3 deviceId FROM devices",
        x_ms_max_item_count="2",
        x_ms_continuation=top.headers["x-ms-continuation"],
    )
    assert (len(top.body), len(rest.body), "x-ms-continuation" in rest.headers) == (2, 1, False)
    for bad in ("nonsense", "W10", continuation):
        answer = ask(fleet, "SELECT * FROM devices", x_ms_continuation=bad)
        assert (answer.status, answer.code) == (400, "ArgumentInvalid")
    for count in ("0", "-2", "x", "1" * 30):
        assert ask(fleet, query, x_ms_max_item_count=count).status == 400
    grouped = "SELECT tags.hall AS hall, COUNT() AS n FROM devices GROUP BY tags.hall"
    first = ask(fleet, grouped, x_ms_max_item_count="3")
    last = ask(fleet, grouped, x_ms_max_item_count="3", x_ms_continuation=first.headers["x-ms-continuation"])
    assert (len(first.body), len(last.body), "x-ms-continuation" in last.headers) == (3, 1, False)


@pytest.mark.spec("S-74")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT",
        "SELECT * FROM devices WHERE deviceId IN ('a')",
        "SELECT * FROM devices WHERE " + "(" * 20 + "1" + ")" * 20,
        "SELECT * FROM devices -- " + "x" * 9000,
        "",
        None,
        5,
    ],
)
def test_wrong_queries_are_told_where(fleet: HubInThread, query: Any) -> None:
    answer = ask(fleet, query)
    assert (answer.status, answer.code) == (400, "ArgumentInvalid")
    if isinstance(query, str):
        assert "The query is not valid" in answer.body["Message"]
    if query == "SELECT":
        assert "at character 7" in answer.body["Message"]


def test_a_query_sees_every_write_before_it() -> None:
    with HubInThread() as hub:
        hub.create_device("seen")
        for number in range(20):
            request(hub, "PATCH", f"/twins/seen?{VERSION}", {"tags": {"number": number, f"only-{number}": True}})
            assert found(hub, f"tags.number = {number}") == ["seen"]
            assert found(hub, f"tags.number = {number - 1}") == []
            assert found(hub, f"tags.[[only-{number}]]") == ["seen"]
        request(hub, "PATCH", f"/twins/seen?{VERSION}", {"tags": {"number": None}})
        assert found(hub, "tags.number = 19") == []
        assert request(hub, "DELETE", f"/devices/seen?{VERSION}").status == 204
        assert found(hub, "tags.[[only-3]]") == []
        hub.create_device("seen")
        assert found(hub, "tags.[[only-3]]") == []
        assert ask(hub, "SELECT COUNT() AS n FROM devices").body == [{"n": 2}]  # first-device is there


def test_who_may_query(fleet: HubInThread) -> None:
    expected = {"iothubowner": 200, "service": 200, "registryRead": 200, "registryReadWrite": 200, "device": 401}
    statuses = {}
    for policy in expected:
        body = {"query": "SELECT * FROM devices"}
        statuses[policy] = request(fleet, "POST", f"/devices/query?{VERSION}", body, policy=policy).status
    assert statuses == expected
