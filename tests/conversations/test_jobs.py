"""Scheduled jobs over HTTPS: made, run at devices that are there and that are not, paged, cancelled, taken up again."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import eventually
from conversations.test_mqtt_methods import answer, called, device
from hubkeep.testing import HubInThread

METHOD = {"methodName": "reboot", "payload": {"soft": True}, "responseTimeoutInSeconds": 30}
TWIN = {"etag": "*", "tags": {"wave": 2}, "properties": {"desired": {"speed": {"rpm": 800}}}}


@pytest.fixture(scope="module")
def fleet() -> Iterator[HubInThread]:
    with HubInThread() as hub:
        make_fleet(hub)
        yield hub


def make_fleet(hub: HubInThread) -> None:
    for number in range(5):
        hub.create_device(f"press-{number}")
        tags = {"tags": {"hall": number % 2}}
        assert request(hub, "PATCH", f"/twins/press-{number}?{VERSION}", tags).status == 200
    module = {"deviceId": "press-0", "moduleId": "vision"}
    assert request(hub, "PUT", f"/devices/press-0/modules/vision?{VERSION}", module).status == 200


def put(hub: HubInThread, job_id: str, **body: Any) -> Answer:
    if "cloudToDeviceMethod" in body:
        body.setdefault("type", "scheduleDeviceMethod")
    else:
        body.setdefault("updateTwin", TWIN)
    return request(hub, "PUT", f"/jobs/v2/{job_id}?{VERSION}", {"type": "scheduleUpdateTwin", "jobId": job_id, **body})


def get(hub: HubInThread, job_id: str) -> Any:
    return request(hub, "GET", f"/jobs/v2/{job_id}?{VERSION}").body


def ended(hub: HubInThread, job_id: str) -> Any:
    assert eventually(lambda: get(hub, job_id)["status"] not in {"queued", "running"}), get(hub, job_id)
    return get(hub, job_id)


def statistics(
    succeeded: int, failed: int = 0, pending: int = 0, running: int = 0, canceled: int = 0
) -> dict[str, int]:
    return {
        "deviceCount": succeeded + failed + pending + running + canceled,
        "failedCount": failed,
        "succeededCount": succeeded,
        "runningCount": running,
        "pendingCount": pending,
    }


def ask(hub: HubInThread, query: str, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(hub, "POST", f"/devices/query?{VERSION}", {"query": query}, headers=given)


@pytest.mark.spec("S-77", "S-80")
def test_a_twin_update_where_the_condition_holds(fleet: HubInThread) -> None:
    made = put(fleet, "tune", queryCondition="tags.hall = 0", startTime=None, maxExecutionTimeInSeconds=600)
    assert made.status == 200
    assert made.body == {
        "jobId": "tune",
        "queryCondition": "tags.hall = 0",
        "createdTime": made.body["createdTime"],
        "startTime": made.body["startTime"],
        "endTime": None,
        "maxExecutionTimeInSeconds": 600,
        "type": "scheduleUpdateTwin",
        "cloudToDeviceMethod": None,
        "updateTwin": TWIN,
        "status": "queued",
        "failureReason": None,
        "statusMessage": None,
        "deviceJobStatistics": statistics(0),
    }
    done = ended(fleet, "tune")
    assert (done["status"], done["deviceJobStatistics"]) == ("completed", statistics(3))
    assert done["endTime"] >= done["startTime"] >= made.body["createdTime"]
    changed = ask(fleet, "SELECT deviceId FROM devices WHERE tags.wave = 2 AND properties.desired.speed.rpm = 800")
    assert [row["deviceId"] for row in changed.body] == ["press-0", "press-2", "press-4"]
    again = put(fleet, "tune")
    assert (again.status, again.code) == (409, "DeviceJobAlreadyExists")


def test_of_modules(fleet: HubInThread) -> None:
    assert put(fleet, "vision", queryCondition="from devices.modules where moduleId = 'vision'").status == 200
    assert ended(fleet, "vision")["deviceJobStatistics"] == statistics(1)
    (row,) = ask(fleet, "SELECT * FROM devices.jobs WHERE jobId = 'vision'").body
    assert (row["deviceId"], row["moduleId"], row["status"]) == ("press-0", "vision", "completed")
    assert "wave" in request(fleet, "GET", f"/twins/press-0/modules/vision?{VERSION}").body["tags"]


@pytest.mark.spec("S-70", "S-76")
def test_a_method_call_and_what_became_of_it_at_each_device(fleet: HubInThread) -> None:
    with device(fleet, "press-1") as one, device(fleet, "press-3") as three:
        put(fleet, "reboot", cloudToDeviceMethod=METHOD, queryCondition="tags.hall = 1 OR deviceId = 'press-2'")
        for peer, status in ((one, 200), (three, 500)):
            name, request_id, payload = called(peer)
            assert (name, payload) == ("reboot", b'{"soft":true}')
            answer(peer, request_id, status, b'{"ok":1}')
        done = ended(fleet, "reboot")
    assert (done["status"], done["cloudToDeviceMethod"]) == ("completed", METHOD)
    assert done["deviceJobStatistics"] == statistics(2, failed=1)  # what a device answers is its own affair
    found = ask(fleet, "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'reboot'")
    assert found.headers["x-ms-item-type"] == "deviceJob"
    rows = {row.pop("deviceId"): row for row in found.body}
    assert set(rows) == {"press-1", "press-2", "press-3"}
    assert rows["press-3"]["outcome"] == {"deviceMethodResponse": {"status": 500, "payload": {"ok": 1}}}
    assert (rows["press-2"]["status"], rows["press-2"]["error"]["code"]) == ("failed", "DeviceNotOnline")
    assert "error" not in rows["press-1"]
    narrowed = "SELECT * FROM devices.jobs WHERE jobId = 'reboot' AND status = 'completed'"
    first = ask(fleet, narrowed, x_ms_max_item_count="1")
    second = ask(fleet, narrowed, x_ms_max_item_count="1", x_ms_continuation=first.headers["x-ms-continuation"])
    assert [row["deviceId"] for row in first.body + second.body] == ["press-1", "press-3"]
    assert "x-ms-continuation" not in second.headers
    for wrong in ("jobId", "COUNT() AS n"):
        refused = ask(fleet, f"SELECT {wrong} FROM devices.jobs")
        assert (refused.status, refused.code) == (400, "ArgumentInvalid")


@pytest.mark.spec("S-79")
def test_one_that_is_cancelled_before_its_time(fleet: HubInThread) -> None:
    assert put(fleet, "night", startTime="2099-03-05T01:00:00.0000000Z").body["startTime"].startswith("2099-03-05T01")
    assert get(fleet, "night")["status"] == "queued"
    cancelled = request(fleet, "POST", f"/jobs/v2/night/cancel?{VERSION}")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert cancelled.body["endTime"]
    assert request(fleet, "POST", f"/jobs/v2/night/cancel?{VERSION}").body == cancelled.body


def test_one_that_begins_when_it_is_time_and_is_cancelled_at_work() -> None:
    with HubInThread() as hub:
        hub.create_device("slow")
        with device(hub, "slow") as slow:
            soon = dt.datetime.fromtimestamp(hub.clock.now() + 20, dt.UTC).isoformat()
            put(hub, "later", cloudToDeviceMethod=METHOD, startTime=soon)
            assert get(hub, "later")["status"] == "queued"
            hub.clock.move(20)
            called(slow)
            running = get(hub, "later")
            # of first-device too, which is not there
            assert eventually(lambda: get(hub, "later")["deviceJobStatistics"] == statistics(0, failed=1, running=1))
            assert (running["status"], running["endTime"]) == ("running", None)
            request(hub, "POST", f"/jobs/v2/later/cancel?{VERSION}")
            assert get(hub, "later")["status"] == "cancelled"
            rows = ask(hub, "SELECT * FROM devices.jobs WHERE deviceId = 'slow'").body
            assert [(row["status"], row["error"]["code"]) for row in rows] == [("canceled", "JobCancelled")]
            put(
                hub,
                "short",
                cloudToDeviceMethod=METHOD,
                queryCondition="deviceId = 'slow'",
                maxExecutionTimeInSeconds=9,
            )
            called(slow)
            hub.clock.move(9)
            done = ended(hub, "short")
            assert (done["status"], done["deviceJobStatistics"]) == ("completed", statistics(0, failed=1))
            hub.clock.move(31 * 24 * 3600)
            assert eventually(lambda: request(hub, "GET", f"/jobs/v2/later?{VERSION}").status == 404)
            assert ask(hub, "SELECT * FROM devices.jobs").body == []


@pytest.mark.spec("S-78")
def test_the_list(fleet: HubInThread) -> None:
    for number in range(3):
        assert put(fleet, f"list-{number}", startTime="2099-01-01T00:00:00Z").status == 200

    def page(filters: str, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(fleet, "GET", f"/jobs/v2/query?{VERSION}{filters}", headers=given)

    queued = page("&jobType=scheduleUpdateTwin&jobStatus=queued", x_ms_max_item_count="2")
    assert queued.headers["x-ms-item-type"] == "jobResponse"
    rest = page("&jobStatus=queued", x_ms_max_item_count="2", x_ms_continuation=queued.headers["x-ms-continuation"])
    assert [job["jobId"] for job in queued.body + rest.body] == ["list-2", "list-1", "list-0"]
    assert "x-ms-continuation" not in rest.headers
    assert page("&jobType=scheduleDeviceMethod&jobStatus=queued").body == []
    assert page("&jobStatus=enqueued").body == []
    assert page("&jobStatus=nonsense").status == page("", x_ms_continuation="nonsense").status == 400
    for number in range(3):
        request(fleet, "POST", f"/jobs/v2/list-{number}/cancel?{VERSION}")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "reboot"},
        {"type": "scheduleDeviceMethod", "updateTwin": TWIN},
        {"updateTwin": {}},
        {"updateTwin": {"tags": {"a.b": 1}}},
        {"updateTwin": {"tags": 5}},
        {"cloudToDeviceMethod": {"methodName": ""}},
        {"cloudToDeviceMethod": {"methodName": "x", "responseTimeoutInSeconds": 4}},
        {"queryCondition": "SELECT * FROM devices"},
        {"queryCondition": "tags.hall = "},
        {"queryCondition": "tags.hall = 1 GROUP BY tags.hall"},
        {"queryCondition": "from devices.jobs where jobId = 'a'"},
        {"queryCondition": "tags.a = 1 AND " * 600 + "tags.b = 2"},
        {"startTime": "tomorrow"},
        {"maxExecutionTimeInSeconds": 0},
        {"maxExecutionTimeInSeconds": 10**9},
        {"jobId": "another"},
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing(fleet: HubInThread, body: dict[str, Any]) -> None:
    refused = put(fleet, "wrong", **body)
    assert (refused.status, refused.code) == (400, "ArgumentInvalid")
    unknown = request(fleet, "GET", f"/jobs/v2/wrong?{VERSION}")
    assert (unknown.status, unknown.code) == (404, "JobNotFound")
    assert request(fleet, "POST", f"/jobs/v2/wrong/cancel?{VERSION}").status == 404


def test_who_may(fleet: HubInThread) -> None:
    statuses = {
        policy: request(fleet, "GET", f"/jobs/v2/query?{VERSION}", policy=policy).status
        for policy in ("iothubowner", "service", "registryReadWrite", "registryRead", "device")
    }
    assert statuses == {
        "iothubowner": 200,
        "service": 200,
        "registryReadWrite": 200,
        "registryRead": 401,
        "device": 401,
    }


def test_a_job_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    limits = {"job_parts_running": 1}
    with HubInThread(tmp_path, limits=limits) as hub:
        make_fleet(hub)
        put(hub, "future", startTime="2099-01-01T00:00:00Z")
        with device(hub, "press-0") as first:
            put(hub, "reboot", cloudToDeviceMethod=METHOD, queryCondition="STARTSWITH(deviceId, 'press')")
            called(first)
            assert get(hub, "reboot")["deviceJobStatistics"] == statistics(0, running=1, pending=4)
            hub.stop()
    with HubInThread(tmp_path, hub.address, limits=limits) as hub:
        done = ended(hub, "reboot")
        assert (done["status"], done["deviceJobStatistics"]) == ("completed", statistics(0, failed=5))
        rows = ask(hub, "SELECT * FROM devices.jobs WHERE jobId = 'reboot'").body
        codes = [row["error"]["code"] for row in rows]
        # the call that was under way is not made twice
        assert codes == ["JobInterrupted", *["DeviceNotOnline"] * 4]
        assert get(hub, "future")["status"] == "queued"
