"""Many identities in one request: import modes, partial success, twins, key rotation."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import MqttPeer
from hubkeep.testing import HubInThread

KEYS = {"primaryKey": base64.b64encode(b"p" * 32).decode(), "secondaryKey": base64.b64encode(b"s" * 32).decode()}


def bulk(hub: HubInThread, *records: dict[str, Any], policy: str = "iothubowner") -> Answer:
    return request(hub, "POST", f"/devices?{VERSION}", list(records), policy=policy)


def get(hub: HubInThread, path: str) -> Any:
    answer = request(hub, "GET", f"{path}?{VERSION}")
    return answer.body if answer.status == 200 else answer.code


def codes(answer: Answer) -> list[tuple[str, str]]:
    assert answer.status == (400 if answer.body["errors"] else 200)
    assert answer.body["isSuccessful"] is not bool(answer.body["errors"])
    assert answer.body["warnings"] == []
    return [(each["deviceId"], each["errorCode"]) for each in answer.body["errors"]]


@pytest.mark.spec("S-45")
def test_two_devices_are_made_with_keys_of_their_own(shared_hub: HubInThread, device_id: str) -> None:
    one, two = f"{device_id}-1", f"{device_id}-2"
    sas = {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}
    answer = bulk(
        shared_hub,
        {"id": one, "importMode": "create", "status": "enabled", "authentication": sas},
        {"id": two, "importMode": "create", "status": "disabled", "authentication": {"symmetricKey": KEYS}},
    )
    assert (answer.status, answer.body) == (200, {"isSuccessful": True, "errors": [], "warnings": []})
    made = get(shared_hub, f"/devices/{one}")["authentication"]["symmetricKey"]
    assert len({made["primaryKey"], made["secondaryKey"], ""}) == 3
    stored = get(shared_hub, f"/devices/{two}")
    assert (stored["status"], stored["authentication"]["symmetricKey"]) == ("disabled", KEYS)
    assert get(shared_hub, f"/twins/{one}")["version"] == 2


@pytest.mark.spec("S-46")
def test_a_bad_record_leaves_the_others_alone(shared_hub: HubInThread, device_id: str) -> None:
    good, there = f"{device_id}-good", f"{device_id}-there"
    assert codes(bulk(shared_hub, {"id": there, "importMode": "create"})) == []
    answer = bulk(
        shared_hub,
        {"id": there, "importMode": "create"},
        {"id": good, "importMode": "create"},
        {"id": f"{device_id}-absent", "importMode": "delete"},
        {"id": "not / an id", "importMode": "create"},
        {"id": f"{device_id}-key", "authentication": {"symmetricKey": {"primaryKey": "AAAA"}}},
        {"id": f"{device_id}-mode", "importMode": "replace"},
        {"id": f"{device_id}-shape", "capabilities": 7},
        {"id": f"{device_id}-twin", "tags": {"a.b": 1}},
        {"id": f"{device_id}-absent", "moduleId": "camera", "importMode": "create"},
    )
    assert codes(answer) == [
        (there, "DeviceAlreadyExists"),
        (f"{device_id}-absent", "DeviceNotFound"),
        ("not / an id", "ArgumentInvalid"),
        (f"{device_id}-key", "ArgumentInvalid"),
        (f"{device_id}-mode", "ArgumentInvalid"),
        (f"{device_id}-shape", "ArgumentInvalid"),
        (f"{device_id}-twin", "ArgumentInvalid"),
        (f"{device_id}-absent", "DeviceNotFound"),
    ]
    assert "8 of 9 records refused" in shared_hub.refusals("", 1)[0].reason
    assert [each["operation"] for each in answer.body["errors"]][:2] == ["create", "delete"]
    assert get(shared_hub, f"/devices/{good}")["deviceId"] == good
    for name in ("key", "mode", "shape", "twin"):
        assert get(shared_hub, f"/devices/{device_id}-{name}") == "DeviceNotFound"


@pytest.mark.spec("S-47")
@pytest.mark.parametrize("mode", ["DeleteIfMatchETag", "deleteIfMatchEtag", "deleteifmatchetag"])
def test_modes_are_the_same_in_any_case(shared_hub: HubInThread, device_id: str, mode: str) -> None:
    assert codes(bulk(shared_hub, {"id": device_id, "importMode": "Create"})) == []
    assert codes(bulk(shared_hub, {"id": device_id, "importMode": mode, "eTag": "other"})) == [
        (device_id, "PreconditionFailed")
    ]
    assert codes(bulk(shared_hub, {"id": device_id, "importMode": mode})) == [(device_id, "PreconditionFailed")]
    assert codes(bulk(shared_hub, {"id": device_id, "importMode": mode, "etag": "*"})) == []
    assert get(shared_hub, f"/devices/{device_id}") == "DeviceNotFound"


@pytest.mark.spec("S-48")
def test_too_many_records_and_one_identity_twice(shared_hub: HubInThread, device_id: str) -> None:
    many = [{"id": f"{device_id}-{number}", "importMode": "create"} for number in range(101)]
    answer = bulk(shared_hub, *many)
    assert (answer.status, answer.code) == (400, "BulkRegistryOperationFailure")
    assert get(shared_hub, f"/devices/{device_id}-0") == "DeviceNotFound"
    assert request(shared_hub, "POST", f"/devices?{VERSION}", []).code == "BulkRegistryOperationFailure"
    assert request(shared_hub, "POST", f"/devices?{VERSION}", {"id": device_id}).code == "BulkRegistryOperationFailure"
    twice = bulk(shared_hub, *many[:2], {"id": f"{device_id}-0", "importMode": "delete"})
    assert codes(twice) == [(f"{device_id}-0", "DeviceDefinedMultipleTimes")] * 2
    assert get(shared_hub, f"/devices/{device_id}-0") == "DeviceNotFound"
    assert get(shared_hub, f"/devices/{device_id}-1")["status"] == "enabled"
    assert codes(bulk(shared_hub, *many[2:100])) == []


def test_every_mode_asks_what_it_says(shared_hub: HubInThread, device_id: str) -> None:
    def one(mode: str, **members: Any) -> list[str]:
        return [code for _, code in codes(bulk(shared_hub, {"id": device_id, "importMode": mode, **members}))]

    for mode in ("update", "updateIfMatchETag", "updateTwin", "updateTwinIfMatchETag", "delete"):
        assert one(mode, eTag="*", twinETag="*") == ["DeviceNotFound"]
    assert one("createOrUpdateIfMatchETag") == []  # there is nothing to match
    first = get(shared_hub, f"/devices/{device_id}")
    assert one("createOrUpdateIfMatchETag", eTag="stale", status="disabled") == ["PreconditionFailed"]
    assert one("createOrUpdateIfMatchETag", eTag=f'"{first["etag"]}"', status="disabled", statusReason="lost") == []
    second = get(shared_hub, f"/devices/{device_id}")
    assert (second["status"], second["statusReason"]) == ("disabled", "lost")
    assert second["authentication"] == first["authentication"]  # the record said nothing of it
    assert second["etag"] != first["etag"]
    assert second["generationId"] == first["generationId"]
    assert one("updateIfMatchETag", eTag=first["etag"]) == ["PreconditionFailed"]
    assert one("updateIfMatchETag", etag=second["etag"], authentication={"symmetricKey": KEYS}) == []
    assert one("createOrUpdate", authentication={"type": "certificateAuthority"}) == []
    third = get(shared_hub, f"/devices/{device_id}")
    assert (third["status"], third["statusReason"], third["authentication"]["type"]) == (
        "enabled",
        None,
        "certificateAuthority",
    )
    assert one("deleteIfMatchETag", eTag=third["etag"]) == []
    assert get(shared_hub, f"/devices/{device_id}") == "DeviceNotFound"


def test_twins_in_bulk(shared_hub: HubInThread, device_id: str) -> None:
    record = {
        "id": device_id,
        "importMode": "create",
        "tags": {"hall": 3, "site": {"name": "north"}},
        "properties": {"desired": {"speed": 1, "$version": 7, "$metadata": {}}, "reported": {"heat": 80}},
    }
    assert codes(bulk(shared_hub, record)) == []
    twin = get(shared_hub, f"/twins/{device_id}")
    desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
    assert (twin["tags"], desired["speed"], reported["heat"]) == (record["tags"], 1, 80)
    assert set(desired["$metadata"]["speed"]) == {"$lastUpdated", "$lastUpdatedVersion"}
    assert set(reported["$metadata"]["heat"]) == {"$lastUpdated"}
    query = {"query": f"SELECT * FROM devices WHERE tags.hall = 3 AND deviceId = '{device_id}'"}
    assert len(request(shared_hub, "POST", f"/devices/query?{VERSION}", query).body) == 1

    changed = {"id": device_id, "importMode": "updateTwinIfMatchETag", "tags": {"hall": None, "wave": 2}}
    assert codes(bulk(shared_hub, {**changed, "twinETag": "stale"})) == [(device_id, "PreconditionFailed")]
    assert codes(bulk(shared_hub, {**changed, "twinETag": twin["etag"]})) == []
    assert get(shared_hub, f"/twins/{device_id}")["tags"] == {"site": {"name": "north"}, "wave": 2}
    assert request(shared_hub, "POST", f"/devices/query?{VERSION}", query).body == []

    device_etag = get(shared_hub, f"/devices/{device_id}")["etag"]
    stale_reported = {"desired": {"speed": 2}, "reported": {"heat": 1}}
    record = {"id": device_id, "importMode": "update", "tags": {}, "properties": stale_reported}
    assert codes(bulk(shared_hub, record)) == []
    twin = get(shared_hub, f"/twins/{device_id}")
    assert "tags" not in twin
    assert (twin["properties"]["desired"]["speed"], twin["properties"]["reported"]["heat"]) == (2, 80)
    assert twin["deviceEtag"] != device_etag


def test_a_device_and_its_modules_in_one_request(shared_hub: HubInThread, device_id: str) -> None:
    camera = {"id": device_id, "moduleId": "camera", "importMode": "create", "authentication": {"symmetricKey": KEYS}}
    edge = {"id": device_id, "importMode": "create", "capabilities": {"iotEdge": True}}
    assert codes(bulk(shared_hub, edge, {**camera, "managedBy": "iotEdge", "tags": {"a": 1}})) == []
    modules = get(shared_hub, f"/devices/{device_id}/modules")
    assert [each["moduleId"] for each in modules] == ["$edgeAgent", "$edgeHub", "camera"]
    assert (modules[2]["managedBy"], modules[2]["authentication"]["symmetricKey"]) == ("iotEdge", KEYS)
    assert get(shared_hub, f"/twins/{device_id}/modules/camera")["tags"] == {"a": 1}
    again = bulk(shared_hub, camera, {"id": device_id, "moduleId": "other", "importMode": "update"})
    assert codes(again) == [(device_id, "ModuleAlreadyExistsOnDevice"), (device_id, "ModuleNotFound")]
    many = [{"id": device_id, "moduleId": f"m{number}", "importMode": "create"} for number in range(60)]
    assert codes(bulk(shared_hub, *many)) == [(device_id, "TooManyModulesOnDevice")] * 13
    assert codes(bulk(shared_hub, {"id": device_id, "moduleId": "camera", "importMode": "delete"})) == []
    assert codes(bulk(shared_hub, {"id": device_id, "importMode": "delete"})) == []
    assert get(shared_hub, f"/devices/{device_id}/modules") == "DeviceNotFound"
    assert get(shared_hub, f"/twins/{device_id}/modules/m1") == "DeviceNotFound"


@pytest.fixture
def empty_hub() -> Iterator[HubInThread]:
    with HubInThread(limits={"identities": 5}) as hub:
        yield hub


@pytest.mark.spec("S-44")
def test_statistics_stay_exact_and_the_quota_holds(empty_hub: HubInThread) -> None:
    def statistics() -> tuple[int, int, int]:
        found = get(empty_hub, "/statistics/devices")
        return found["totalDeviceCount"], found["enabledDeviceCount"], found["disabledDeviceCount"]

    before = statistics()[0]
    devices = [{"id": f"d{number}", "importMode": "create"} for number in range(6)]
    refused = codes(bulk(empty_hub, *devices))
    assert [code for _, code in refused] == ["IotHubQuotaExceeded"] * (1 + before)
    assert statistics() == (5, 5, 0)
    assert codes(bulk(empty_hub, {"id": "d0", "importMode": "update", "status": "Disabled"})) == []
    assert statistics() == (5, 4, 1)
    assert codes(bulk(empty_hub, {"id": "d1", "importMode": "delete"}, {"id": "d0", "importMode": "delete"})) == []
    assert statistics() == (3, 3, 0)
    assert codes(bulk(empty_hub, {"id": "d2", "importMode": "update", "status": "disabled"})) == []
    request(empty_hub, "PUT", f"/devices/d2?{VERSION}", {"deviceId": "d2"}, headers={"If-Match": "*"})
    request(empty_hub, "DELETE", f"/devices/d3?{VERSION}")
    assert statistics() == (2, 2, 0)


@pytest.mark.parametrize("change", ["disabled", "deleted", "keys"])
def test_links_are_cut_by_what_is_done_in_bulk(shared_hub: HubInThread, device_id: str, change: str) -> None:
    with MqttPeer.logged_in(shared_hub, device_id) as device:
        record: dict[str, Any] = {
            "disabled": {"importMode": "update", "status": "disabled"},
            "deleted": {"importMode": "delete"},
            "keys": {"importMode": "update", "authentication": {"symmetricKey": KEYS}},
        }[change]
        assert codes(bulk(shared_hub, {"id": device_id, **record})) == []
        assert device.is_closed()


@pytest.mark.parametrize("policy", ["registryRead", "service", "device"])
def test_bulk_needs_the_right_to_write(shared_hub: HubInThread, device_id: str, policy: str) -> None:
    answer = bulk(shared_hub, {"id": device_id, "importMode": "create"}, policy=policy)
    assert (answer.status, answer.code) == (401, "IotHubUnauthorizedAccess")
    assert get(shared_hub, f"/devices/{device_id}") == "DeviceNotFound"
    rotation = {"policyKey": "primaryKey", "devices": [{"id": device_id}]}
    assert request(shared_hub, "POST", f"/devices/keys/regenerate?{VERSION}", rotation, policy=policy).status == 401


def test_keys_are_rotated_for_many_at_once(shared_hub: HubInThread, device_id: str) -> None:
    def rotate(which: str, *names: dict[str, Any]) -> Answer:
        body = {"policyKey": which, "devices": list(names)}
        return request(shared_hub, "POST", "/devices/keys/regenerate?api-version=2024-03-31", body)

    def keys(path: str = "") -> tuple[str, str]:
        found = get(shared_hub, f"/devices/{device_id}{path}")["authentication"]["symmetricKey"]
        return found["primaryKey"], found["secondaryKey"]

    module = {"id": device_id, "moduleId": "camera"}
    x509 = {"id": f"{device_id}-x", "authentication": {"type": "certificateAuthority"}}
    assert codes(bulk(shared_hub, {"id": device_id}, module, x509)) == []
    device, of_module = keys(), keys("/modules/camera")
    answer = rotate("primaryKey", {"id": device_id, "moduleId": None}, module)
    assert (answer.status, answer.body["policyKey"], answer.body["errors"]) == (200, "primaryKey", [])
    told = [(each["primaryKey"], each["secondaryKey"]) for each in answer.body["rotatedKeys"]]
    assert told == [keys(), keys("/modules/camera")]
    for before, after in ((device, told[0]), (of_module, told[1])):
        assert before[0] != after[0]
        assert before[1] == after[1]
    answer = rotate("swap", {"id": device_id}, {"id": f"{device_id}-x"}, {"id": f"{device_id}-absent"})
    assert answer.status == 207
    assert [each["errorCode"] for each in answer.body["errors"]] == ["ArgumentInvalid", "DeviceNotFound"]
    assert keys() == (told[0][1], told[0][0])
    assert rotate("secondaryKey", {"id": f"{device_id}-absent"}).status == 400
    assert rotate("tertiary", {"id": device_id}).code == "ArgumentInvalid"
    assert rotate("primaryKey", *[{"id": f"d{number}"} for number in range(101)]).status == 400
    assert keys() == (told[0][1], told[0][0])


@pytest.mark.parametrize("policy", ["registryRead", "registryReadWrite", "service", "device"])
def test_identities_with_keys_and_twins_are_for_the_owner_alone(shared_hub: HubInThread, policy: str) -> None:
    assert request(shared_hub, "GET", "/api/identities", policy=policy).status == 401


def test_all_identities_page_by_page(shared_hub: HubInThread, device_id: str) -> None:
    names = [{"id": f"{device_id}-{number}"} for number in range(3)]
    assert codes(bulk(shared_hub, *names, {"id": names[0]["id"], "moduleId": "m", "tags": {"a": 1}})) == []
    after, found = f"{device_id}-", []
    while page := request(shared_hub, "GET", f"/api/identities?most=2&after={after}").body:
        assert len(page) <= 2
        found += [(each["id"], each.get("moduleId")) for each in page]
        after = "/".join(filter(None, found[-1]))
    first = names[0]["id"]
    assert [each for each in found if each[0].startswith(device_id)] == [
        (first, None),
        (first, "m"),
        (names[1]["id"], None),
        (names[2]["id"], None),
    ]
    assert request(shared_hub, "GET", "/api/identities?most=1001").status == 400
