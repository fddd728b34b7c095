"""Import and export jobs over HTTPS: one at a time, cancelled, resumed, refused, and only where egress lets the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations.container_peer import Container, container_peer
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

EGRESS = {"allow": ["127.0.0.1"]}
ENDED = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread(egress=EGRESS) as hub:
        yield hub


@pytest.fixture
def container() -> Iterator[Container]:
    with container_peer() as container:
        yield container


def create(hub: HubInThread, kind: str, container: Container, **more: Any) -> Answer:
    urls = {"outputBlobContainerUri": container.url}
    urls |= {"inputBlobContainerUri": container.url} if kind == "import" else {}
    return request(hub, "POST", f"/jobs/create?{VERSION}", {"type": kind, **urls, **more})


def get(hub: HubInThread, job_id: str) -> Any:
    return request(hub, "GET", f"/jobs/{job_id}?{VERSION}").body


def run(hub: HubInThread, kind: str, container: Container, **more: Any) -> Any:
    """The job at its end."""
    made = create(hub, kind, container, **more)
    assert made.status == 200, made.body
    job_id = made.body["jobId"]
    assert eventually(lambda: get(hub, job_id)["status"] in ENDED, 30), get(hub, job_id)
    return get(hub, job_id)


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def put_devices(hub: HubInThread, *records: dict[str, Any]) -> None:
    for start in range(0, len(records), 100):
        assert request(hub, "POST", f"/devices?{VERSION}", list(records[start : start + 100])).status == 200


@pytest.mark.spec("S-81")
def test_an_export_writes_one_record_a_line_and_no_keys_where_none_are_wanted(
    hub: HubInThread, container: Container
) -> None:
    twin = {"tags": {"hall": 3}, "properties": {"desired": {"rpm": 800}}}
    put_devices(hub, {"id": "press-07", **twin}, {"id": "press-07", "moduleId": "vision"})
    done = run(hub, "export", container, outputBlobName="all/fleet.txt")
    assert (done["status"], done["progress"], done["failureReason"]) == ("completed", 100, None)
    assert done["outputBlobContainerUri"] == container.url.replace("secret%2F%2B%3D", "hidden")
    assert (done["inputBlobContainerUri"], done["storageAuthenticationType"]) == (None, "keyBased")
    assert done["startTimeUtc"] < done["endTimeUtc"]
    records = {(each["id"], each.get("moduleId")): each for each in lines(container.blobs["all/fleet.txt"])}
    device = request(hub, "GET", f"/devices/press-07?{VERSION}").body
    found = records["press-07", None]
    assert found["authentication"]["symmetricKey"] == device["authentication"]["symmetricKey"]
    assert (found["eTag"], found["status"], found["tags"]) == (device["etag"], "enabled", {"hall": 3})
    assert found["properties"] == {"desired": {"rpm": 800}, "reported": {}}
    assert {"twinETag"} < found.keys()
    assert ("press-07", "vision") in records

    without = run(hub, "export", container, excludeKeysInExport=True)
    assert without["excludeKeysInExport"] is True
    bare = lines(container.blobs["devices.txt"])
    assert len(bare) == len(records)
    for each in bare:
        assert each["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}


@pytest.mark.spec("S-82")
def test_one_job_at_a_time(hub: HubInThread, container: Container) -> None:
    container.hold()
    first = create(hub, "export", container).body
    assert first["status"] == "enqueued"
    second = create(hub, "import", container)
    assert (second.status, second.code) == (403, "JobQuotaExceeded")
    assert eventually(lambda: get(hub, first["jobId"])["status"] == "running")
    assert request(hub, "DELETE", f"/jobs/{first['jobId']}?{VERSION}").status == 204
    cancelled = get(hub, first["jobId"])
    assert (cancelled["status"], cancelled["endTimeUtc"] is not None) == ("cancelled", True)
    container.release()
    assert run(hub, "export", container)["status"] == "completed"
    listed = request(hub, "GET", f"/jobs?{VERSION}").body
    assert [each["jobId"] for each in listed].index(first["jobId"]) == 1  # the newest first
    # one that has ended stays as it is
    assert request(hub, "DELETE", f"/jobs/{listed[0]['jobId']}?{VERSION}").status == 204
    assert get(hub, listed[0]["jobId"])["status"] == "completed"
    unknown = request(hub, "GET", f"/jobs/unknown?{VERSION}")
    assert (unknown.status, unknown.code) == (404, "JobNotFound")
    assert request(hub, "DELETE", f"/jobs/unknown?{VERSION}").code == "JobNotFound"


def test_an_import_carries_out_each_record_and_says_which_it_could_not(hub: HubInThread, container: Container) -> None:
    put_devices(hub, {"id": "there"}, {"id": "going"})
    etag = request(hub, "GET", f"/devices/there?{VERSION}").body["etag"]
    records = [
        {"id": "in-1", "tags": {"a": 1}, "properties": {"desired": {"b": 2}, "reported": {"c": 3}}},
        {"id": "in-1", "importMode": "updateTwin", "tags": {"more": True}},  # of one just made, in this order
        {"id": "in-1", "moduleId": "m", "importMode": "create"},
        {"id": "there", "importMode": "create"},
        {"id": "there", "importMode": "updateIfMatchETag", "eTag": etag, "status": "disabled"},
        {"id": "going", "importMode": "deleteIfMatchEtag", "eTag": "*"},
        {"id": "nobody", "importMode": "update"},
        {"id": "bad id"},
        {"id": "x", "importMode": "what"},
    ]
    content = b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(each).encode() for each in records)
    content += b"\n\nno json\n" + b"{" + b" " * (1 << 20) + b"}\n" + b'{"id":"in-last"}'
    container.blobs["devices.txt"] = content
    done = run(hub, "import", container)
    assert (done["status"], done["progress"]) == ("completed", 100)
    errors = lines(container.blobs["importErrors.log"])
    assert [(each["deviceId"], each["errorCode"]) for each in errors] == [
        ("there", "DeviceAlreadyExists"),
        ("nobody", "DeviceNotFound"),
        ("bad id", "ArgumentInvalid"),
        ("x", "ArgumentInvalid"),
        ("", "IotHubFormatError"),
        ("", "ArgumentInvalid"),
    ]
    twin = request(hub, "GET", f"/twins/in-1?{VERSION}").body
    assert (twin["tags"], twin["properties"]["reported"]["c"]) == ({"a": 1, "more": True}, 3)
    assert request(hub, "GET", f"/devices/in-1/modules/m?{VERSION}").status == 200
    assert request(hub, "GET", f"/devices/there?{VERSION}").body["status"] == "disabled"
    assert request(hub, "GET", f"/devices/going?{VERSION}").status == 404
    assert request(hub, "GET", f"/devices/in-last?{VERSION}").status == 200

    container.blobs["devices.txt"] = b""
    assert run(hub, "import", container)["status"] == "completed"
    assert container.blobs["importErrors.log"] == b""  # there, and empty


def test_configurations_move_as_well(hub: HubInThread, container: Container) -> None:
    body = {"content": {"deviceContent": {"properties.desired.a": 1}}, "targetCondition": "", "priority": 7}
    path = f"/configurations/moved?{VERSION}"
    assert request(hub, "PUT", path, body).status == 200
    run(hub, "export", container, includeConfigurations=True, configurationsBlobName="c.txt")
    (record,) = lines(container.blobs["c.txt"])
    assert (record["id"], record["importMode"]) == ("moved", "createOrUpdateIfMatchETag")
    request(hub, "DELETE", path)
    wrong = [{"id": "moved", "importMode": "delete"}, {"id": "Wrong id", **body}]
    container.blobs["c.txt"] += b"".join(json.dumps(each).encode() + b"\n" for each in wrong)
    run(hub, "import", container, includeConfigurations=True, configurationsBlobName="c.txt")
    made = request(hub, "GET", path).body
    assert (made["priority"], made["content"]) == (7, body["content"])
    errors = lines(container.blobs["importErrors.log"])
    assert [(each["configurationId"], each["errorCode"]) for each in errors] == [
        ("moved", "ArgumentInvalid"),
        ("Wrong id", "ArgumentInvalid"),
    ]
    request(hub, "DELETE", path)


def test_a_container_that_fails_for_a_while_is_asked_again(hub: HubInThread, container: Container) -> None:
    container.answers = [(503, {}), (500, {})]
    assert run(hub, "export", container)["status"] == "completed"
    assert container.asked == ["PUT devices.txt"] * 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((403, {"x-ms-error-code": "AuthorizationPermissionMismatch"}), "403 AuthorizationPermissionMismatch"),
        ((302, {"Location": "http://127.0.0.1:1/x"}), "302"),  # never followed
        ((404, {"x-ms-error-code": "no <code>"}), "answers 404 to PUT of devices.txt"),
    ],
    ids=str,
)
def test_what_the_container_refuses_ends_the_job(
    hub: HubInThread, container: Container, answer: tuple[int, dict[str, str]], told: str
) -> None:
    container.answers = [answer]
    failed = run(hub, "export", container)
    assert failed["status"] == "failed"
    assert told in failed["failureReason"]
    assert "secret" not in json.dumps(failed)
    assert container.asked == ["PUT devices.txt"]
    assert run(hub, "import", container, inputBlobName="absent.txt")["failureReason"] == (
        "The container answers 404 BlobNotFound to HEAD of absent.txt."
    )


@pytest.mark.parametrize(
    "body",
    [
        {"type": "backup", "outputBlobContainerUri": "https://blobs.example/c"},
        {"type": "export"},
        {"type": "import", "outputBlobContainerUri": "https://blobs.example/c"},
        {"type": "export", "outputBlobContainerUri": "https://127.0.0.2/c"},
        {"type": "export", "outputBlobContainerUri": "http://169.254.169.254/latest"},
        {"type": "export", "outputBlobContainerUri": "http://10.1.2.3/c"},
        {"type": "export", "outputBlobContainerUri": "file:///etc"},
        {"type": "export", "outputBlobContainerUri": "http://127.0.0.1:1/c", "outputBlobName": "../x"},
        {
            "type": "export",
            "outputBlobContainerUri": "http://127.0.0.1:1/c",
            "storageAuthenticationType": "identityBased",
        },
    ],
    ids=str,
)
def test_a_job_that_cannot_be_is_refused(hub: HubInThread, body: dict[str, Any]) -> None:
    before = len(request(hub, "GET", f"/jobs?{VERSION}").body)
    refused = request(hub, "POST", f"/jobs/create?{VERSION}", body)
    assert (refused.status, refused.code) == (400, "ArgumentInvalid")
    assert len(request(hub, "GET", f"/jobs?{VERSION}").body) == before


def test_who_may(hub: HubInThread) -> None:
    for policy, status in {"registryRead": 401, "service": 401, "device": 401, "registryReadWrite": 200}.items():
        assert request(hub, "GET", f"/jobs?{VERSION}", policy=policy).status == status


def test_a_job_goes_on_after_a_restart(tmp_path: Path, container: Container) -> None:
    count = 2500
    records = [{"id": f"in-{number:04}"} for number in range(count)]
    records[5] = records[2400] = {"id": "bad id"}
    container.blobs["devices.txt"] = b"".join(json.dumps(each).encode() + b"\n" for each in records)
    with HubInThread(tmp_path, egress=EGRESS) as hub:
        job_id = create(hub, "import", container).body["jobId"]
        assert eventually(lambda: "PUT importErrors.log" in container.asked, 30)  # 2000 records are noted with it
        container.hold("PUT importErrors.log")
        assert eventually(lambda: container.asked.count("PUT importErrors.log") == 2, 30)
        assert get(hub, job_id)["status"] == "running"
        registry = (tmp_path / "registry.db").read_bytes() + (tmp_path / "registry.db-wal").read_bytes()
        assert b"secret%2F" not in registry
    container.release()
    with HubInThread(tmp_path, hub.address, egress=EGRESS) as hub:
        assert eventually(lambda: get(hub, job_id)["status"] == "completed", 30), get(hub, job_id)
        noted = len(b"".join(json.dumps(each).encode() + b"\n" for each in records[:2000]))
        assert f"GET devices.txt from {noted}" in container.asked
        assert len(lines(container.blobs["importErrors.log"])) == 2
        statistics = request(hub, "GET", f"/statistics/devices?{VERSION}").body
        assert statistics["totalDeviceCount"] == count - 1  # with the first device of a dev hub
        job = get(hub, job_id)
        assert (job["progress"], job["failureReason"]) == (100, None)


def test_an_export_goes_on_after_a_restart(tmp_path: Path, container: Container) -> None:
    tags = {"filler": ["x" * 4000, "y" * 3000]}
    records = [{"id": f"out-{number:04}", "tags": tags} for number in range(900)]
    with HubInThread(tmp_path, egress=EGRESS) as hub:
        put_devices(hub, *records)
        job_id = create(hub, "export", container).body["jobId"]
        assert eventually(lambda: "PUT devices.txt" in container.asked, 30)  # the first block, of more than 4 MiB
        container.hold("PUT devices.txt")
        assert eventually(lambda: container.asked.count("PUT devices.txt") == 2, 30)
    container.release()
    with HubInThread(tmp_path, hub.address, egress=EGRESS) as hub:
        assert eventually(lambda: get(hub, job_id)["status"] == "completed", 30), get(hub, job_id)
    written = lines(container.blobs["devices.txt"])
    assert sorted(each["id"] for each in written) == ["first-device", *(each["id"] for each in records)]
    assert len(container.blocks) == 2
