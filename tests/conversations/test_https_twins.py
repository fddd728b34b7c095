"""The service REST surface of twins: read, patch, replace, etags, and every rule of their content."""

import re
from typing import Any

import pytest

from conversations.https_peer import VERSION, Answer, request
from hubkeep.testing import HubInThread


def get(hub: HubInThread, path: str) -> Answer:
    return request(hub, "GET", f"/twins/{path}?{VERSION}")


def patch(hub: HubInThread, path: str, body: Any, etag: str = "", method: str = "PATCH") -> Answer:
    headers = {"If-Match": etag} if etag else {}
    return request(hub, method, f"/twins/{path}?{VERSION}", body, headers=headers)


def desired(value: Any) -> dict[str, Any]:
    return {"properties": {"desired": value}}


def plain(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if not key.startswith("$")}


@pytest.mark.spec("S-49", "S-57")
def test_a_fresh_twin(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    answer = get(shared_hub, device_id)
    identity = request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}").body
    assert answer.status == 200
    assert answer.headers["etag"] == '"AAAAAAAAAAE="'
    empty = {"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"}, "$version": 1}
    assert answer.body == {
        "deviceId": device_id,
        "etag": "AAAAAAAAAAE=",
        "deviceEtag": identity["etag"],
        "status": "enabled",
        "statusUpdateTime": "0001-01-01T00:00:00Z",
        "connectionState": "Disconnected",
        "lastActivityTime": "0001-01-01T00:00:00Z",
        "cloudToDeviceMessageCount": 0,
        "authenticationType": "sas",
        "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
        "modelId": "",
        "version": 2,
        "properties": {"desired": empty, "reported": empty},
        "capabilities": {"iotEdge": False},
    }
    assert "statusUpdatedTime" in identity


def test_a_twin_goes_with_its_identity(shared_hub: HubInThread, device_id: str) -> None:
    assert get(shared_hub, device_id).code == "DeviceNotFound"
    assert patch(shared_hub, device_id, {"tags": {"a": 1}}).status == 404
    shared_hub.create_device(device_id)
    assert patch(shared_hub, device_id, {"tags": {"a": 1}}).status == 200
    assert request(shared_hub, "DELETE", f"/devices/{device_id}?{VERSION}").status == 204
    assert get(shared_hub, device_id).status == 404
    shared_hub.create_device(device_id)
    assert get(shared_hub, device_id).body["version"] == 2


@pytest.mark.spec("S-50", "S-51", "S-53")
def test_a_patch_merges_and_tells_when_and_with_which_version(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    first = patch(
        shared_hub, device_id, {"tags": {"site": {"hall": 3}}, **desired({"fan": {"a": 1, "b": 2}, "c": [1]})}
    )
    assert first.status == 200
    assert first.body["version"] == 3
    second = patch(shared_hub, device_id, desired({"fan": {"a": None, "d": True}, "nothing": None}))
    section = second.body["properties"]["desired"]
    assert plain(section) == {"fan": {"b": 2, "d": True}, "c": [1]}
    assert (section["$version"], second.body["version"]) == (3, 4)
    metadata = section["$metadata"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", metadata["$lastUpdated"])
    versions = {
        "": metadata["$lastUpdatedVersion"],
        "fan": metadata["fan"]["$lastUpdatedVersion"],
        "b": metadata["fan"]["b"]["$lastUpdatedVersion"],
        "d": metadata["fan"]["d"]["$lastUpdatedVersion"],
        "c": metadata["c"]["$lastUpdatedVersion"],
    }
    assert versions == {"": 3, "fan": 3, "b": 2, "d": 3, "c": 2}
    assert set(metadata["fan"]) == {"$lastUpdated", "$lastUpdatedVersion", "b", "d"}
    assert metadata["fan"]["b"]["$lastUpdated"] < metadata["fan"]["d"]["$lastUpdated"] == metadata["$lastUpdated"]
    assert second.body["tags"] == {"site": {"hall": 3}}
    assert len({first.body["etag"], second.body["etag"], "AAAAAAAAAAE="}) == 3
    assert first.body["deviceEtag"] == second.body["deviceEtag"]
    assert get(shared_hub, device_id).body == second.body


@pytest.mark.spec("S-52")
def test_a_replacement_leaves_only_what_it_says(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    patch(shared_hub, device_id, {"tags": {"a": 1, "b": 2}, **desired({"x": 1, "y": {"z": 2}})})
    replaced = patch(shared_hub, device_id, {"tags": {"a": 5}, **desired({"y": {"q": 3}})}, method="PUT").body
    assert replaced["tags"] == {"a": 5}
    assert plain(replaced["properties"]["desired"]) == {"y": {"q": 3}}
    assert set(replaced["properties"]["desired"]["$metadata"]) == {"$lastUpdated", "$lastUpdatedVersion", "y"}
    emptied = patch(shared_hub, device_id, {"tags": {"a": 1}}, method="PUT").body
    assert plain(emptied["properties"]["desired"]) == {}
    assert emptied["properties"]["desired"]["$version"] == 4


@pytest.mark.spec("S-54", "L-D3", "L-H8")
def test_if_match_in_every_spelling(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    body = {"tags": {"n": 1}}
    twin = get(shared_hub, device_id).body
    for spelled in ("*", '"*"', '"{}"', "{}", 'W/"{}"'):
        answer = patch(shared_hub, device_id, body, spelled.format(twin["etag"]))
        assert answer.status == 200, spelled
        twin = answer.body
    for stale in ('"AAAAAAAAAAE="', "AAAAAAAAAAE=", f'"{twin["deviceEtag"]}"', '"**"'):
        for method in ("PATCH", "PUT"):
            refused = patch(shared_hub, device_id, {"tags": {"n": 2}}, stale, method)
            assert (refused.status, refused.code) == (412, "PreconditionFailed"), stale
    assert get(shared_hub, device_id).body == twin


def test_what_a_writer_sends_back_of_the_hubs_own_is_passed_over(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    twin = patch(shared_hub, device_id, {"tags": {"n": 1}, **desired({"x": 1})}).body
    again = patch(shared_hub, device_id, {**twin, "status": "disabled", "version": 99}, method="PUT").body
    assert again["tags"] == twin["tags"]
    assert plain(again["properties"]["desired"]) == {"x": 1}
    assert again["properties"]["reported"] == twin["properties"]["reported"]
    assert (again["status"], again["version"]) == ("enabled", twin["version"] + 1)


def nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels):
        value = {"k": value}
    return value


GOOD: dict[str, Any] = {
    "ten levels": nested(10),
    "key of 1 KiB": {"k" * 1024: 1},
    "text of 4 KiB": {"k": "é" * 2048},
    "integers": {"low": -(2**52), "high": 2**52 - 1},
    "every kind": {"n": 1.5, "b": False, "s": "", "o": {}, "a": [1, "x", [True], {"y": 1}]},
    "32 KiB": {f"k{n}": "x" * 4094 for n in range(8)},
    "unusual keys": {"ünï-çødé/:#+": 1, "__t": "c"},
}
BAD: dict[str, Any] = {
    "eleven levels": nested(11),
    "eleven levels through an array": {"k": [[[[[[[[[[1]]]]]]]]]]},
    "key over 1 KiB": {"k" * 1025: 1},
    "key of many bytes": {"é" * 513: 1},
    "text over 4 KiB": {"k": "x" * 4097},
    "text of many bytes": {"k": "é" * 2049},
    "integer too low": {"k": -(2**52) - 1},
    "integer too high": {"k": 2**52},
    "integer in an array": {"k": [2**60]},
    "dot": {"a.b": 1},
    "dollar": {"a": {"$b": 1}},
    "dollar at the top": {"$b": 1},
    "the hub's own below the top": {"a": {"$version": 1}},
    "space": {"a b": 1},
    "control character": {"a\x07": 1},
    "C1 control character": {"a\x85": 1},
    "empty key": {"": 1},
    "null in an array": {"a": [None]},
    "over 32 KiB": {f"k{n}": "x" * 4095 for n in range(8)},
    "no object": [1],
    "text": "x",
}


@pytest.mark.spec("S-55", "L-D1", "L-D2")
def test_what_a_section_may_hold(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    before = patch(shared_hub, device_id, {"tags": {"n": 1}, **desired({"x": 1})}).body
    for name, value in BAD.items():
        for method in ("PATCH", "PUT"):
            answer = patch(shared_hub, device_id, desired(value), method=method)
            assert (answer.status, answer.code) == (400, "ArgumentInvalid"), name
        # all or nothing: good tags beside bad properties are not written
        assert patch(shared_hub, device_id, {"tags": {"n": 2}, **desired(value)}).status == 400, name
    assert patch(shared_hub, device_id, {"tags": {f"k{n}": "x" * 4000 for n in range(3)}}).status == 400
    assert patch(shared_hub, device_id, {"tags": [1]}).status == 400
    assert patch(shared_hub, device_id, {"properties": 5}).status == 400
    assert get(shared_hub, device_id).body == before
    for name, value in GOOD.items():
        answer = patch(shared_hub, device_id, desired(value), method="PUT")
        assert answer.status == 200, (name, answer.body)
        assert plain(answer.body["properties"]["desired"]) == value, name


@pytest.mark.spec("L-D2")
def test_sizes_count_after_the_merge(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    for number in range(7):
        assert patch(shared_hub, device_id, desired({f"k{number}": "x" * 4096})).status == 200
    before = get(shared_hub, device_id).body
    assert patch(shared_hub, device_id, desired({"k7": "x" * 4096})).status == 400
    assert get(shared_hub, device_id).body == before
    assert patch(shared_hub, device_id, desired({"k0": None, "k7": "x" * 4096})).status == 200


@pytest.mark.spec("L-D1")
def test_json_with_two_meanings_is_refused(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    before = get(shared_hub, device_id).body
    for body in (
        b'{"tags":{"a":1,"a":2}}',
        b'{"tags":{"a":NaN}}',
        b'{"tags":{"a":1}} {}',
        b'{"tags":{"a":"\xff"}}',
        b'{"tags":{"a":"\\ud800"}}',
        b'{"tags":{"a":1e999}}',
        b'{"tags":{"a":' + b"9" * 400 + b"}}",
        b'{"tags":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"[" * 100_000,
        b"[]",
        b"",
    ):
        assert patch(shared_hub, device_id, body).status == 400, body[:40]
    assert get(shared_hub, device_id).body == before


@pytest.mark.spec("S-10", "S-12")
@pytest.mark.parametrize(
    ("policy", "status"),
    [("iothubowner", 200), ("service", 200), ("registryRead", 401), ("registryReadWrite", 401), ("device", 401)],
)
def test_who_may(shared_hub: HubInThread, device_id: str, policy: str, status: int) -> None:
    shared_hub.create_device(device_id)
    for method in ("GET", "PATCH", "PUT"):
        path = f"/twins/{device_id}?{VERSION}"
        answer = request(shared_hub, method, path, {"tags": {}} if method != "GET" else None, policy=policy)
        assert answer.status == status, method
