"""The service REST surface: tokens, conventions, identities."""

import base64
import re
import time

import pytest

from conversations.https_peer import VERSION, Answer, request
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def put(hub: HubInThread, device_id: str, etag: str = "", **members: object) -> Answer:
    headers = {"If-Match": etag} if etag else {}
    return request(hub, "PUT", f"/devices/{device_id}?{VERSION}", {"deviceId": device_id, **members}, headers=headers)


def get(hub: HubInThread, device_id: str) -> Answer:
    return request(hub, "GET", f"/devices/{device_id}?{VERSION}")


def key_of(hub: HubInThread, policy: str = "iothubowner") -> bytes:
    return sas.parse_connection_string(hub.policy_connection_string(policy)).key


@pytest.mark.spec("S-1", "S-2", "S-3", "S-8", "D-E7", "D-J17")
def test_tokens_in_every_spelling(shared_hub: HubInThread) -> None:
    host, se = shared_hub.host_name, int(time.time()) + 600

    def token(sr: str, order: str, *, lower: bool = False, plain: bool = False) -> str:
        signature = base64.b64encode(sas.signature(sr, str(se), key_of(shared_hub))).decode()
        sig = signature if plain else signature.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
        sig = re.sub("%..", lambda found: found[0].lower(), sig) if lower else sig
        fields = {"sr": sr, "sig": sig, "se": str(se), "skn": "iothubowner"}
        return "SharedAccessSignature " + "&".join(f"{name}={fields[name]}" for name in order.split(","))

    for spelled in (
        token(host, "sr,sig,skn,se"),
        token(host, "sig,se,skn,sr"),
        token(host, "sr,sig,se,skn", lower=True),
        token(host, "sr,sig,se,skn", plain=True),
        token(f"{host}%3A8443", "sr,sig,se,skn"),
        token(f"{host}:8443", "sr,sig,se,skn"),
        token(f"https%3A%2F%2F{host}", "sr,sig,se,skn"),
    ):
        assert request(shared_hub, "GET", f"/devices?{VERSION}", token=spelled).status == 200


@pytest.mark.spec("S-4", "S-5", "S-6", "S-7", "S-9", "L-I1")
def test_tokens_that_prove_nothing_get_one_answer(shared_hub: HubInThread) -> None:
    host = shared_hub.host_name
    good = shared_hub.token()
    policy = shared_hub.hub._policies.get("iothubowner")
    secondary = sas.make(host, policy.secondary_key, int(time.time()) + 600, "iothubowner")
    assert request(shared_hub, "GET", f"/devices?{VERSION}", token=secondary).status == 200
    sig = good.index("sig=") + 4
    bad = {
        "sr": good.replace("sr=1", "sr=2"),
        "sig": good[:sig] + ("A" if good[sig] != "A" else "B") + good[sig + 1 :],
        "se": good.replace("&se=1", "&se=2"),
        "expired": sas.make(host, policy.primary_key, int(time.time()) - 3600, "iothubowner"),
        "unknown policy": sas.make(host, policy.primary_key, 2**31, "nobody"),
        "key text": sas.make(host, sas.key_text(policy.primary_key), 2**31, "iothubowner"),
        "none": "",
        "no token": "Basic abc",
    }
    answers = {name: request(shared_hub, "GET", f"/devices?{VERSION}", token=token) for name, token in bad.items()}
    assert {name: answer.status for name, answer in answers.items()} == dict.fromkeys(bad, 401)
    assert {answer.headers["iothub-errorcode"] for answer in answers.values()} == {"IotHubUnauthorized"}
    assert len({answer.body["Message"] for answer in answers.values()}) == 1
    tracking_id = answers["expired"].body["ExceptionMessage"].split("Tracking ID:")[1].split("-")[0]
    assert "expired" in shared_hub.refusals(tracking_id)[0].reason


RIGHTS = {
    "iothubowner": {"GET": 200, "PUT": 200, "STAT": 200, "DELETE": 204},
    "registryRead": {"GET": 200, "PUT": 401, "STAT": 200, "DELETE": 401},
    "registryReadWrite": {"GET": 200, "PUT": 200, "STAT": 200, "DELETE": 204},
    "service": {"GET": 401, "PUT": 401, "STAT": 200, "DELETE": 401},
    "device": {"GET": 401, "PUT": 401, "STAT": 401, "DELETE": 401},
}


@pytest.mark.spec("S-13", "S-15")
@pytest.mark.parametrize("policy", RIGHTS)
def test_what_each_policy_may_do(shared_hub: HubInThread, device_id: str, policy: str) -> None:
    path = f"/devices/{device_id}?{VERSION}"
    put(shared_hub, device_id)
    body = {"deviceId": device_id}
    answers = {
        "GET": request(shared_hub, "GET", path, policy=policy),
        "PUT": request(shared_hub, "PUT", path, body, policy=policy, headers={"If-Match": "*"}),
        "STAT": request(shared_hub, "GET", f"/statistics/devices?{VERSION}", policy=policy),
        "DELETE": request(shared_hub, "DELETE", path, policy=policy),
    }
    assert {name: answer.status for name, answer in answers.items()} == RIGHTS[policy]
    refused = [answer for answer in answers.values() if answer.status == 401]
    assert {answer.code for answer in refused} <= {"IotHubUnauthorizedAccess"}
    if policy == "iothubowner":
        put(shared_hub, device_id)
        narrow = shared_hub.token("device")
        assert request(shared_hub, "GET", path, token=narrow).status == 401
        assert request(shared_hub, "GET", path, token=shared_hub.token("devices")).status == 200


@pytest.mark.spec("L-I4", "D-20")
def test_a_devices_own_token_opens_no_service_path(shared_hub: HubInThread, device_id: str) -> None:
    created = put(shared_hub, device_id).body
    key = base64.b64decode(created["authentication"]["symmetricKey"]["primaryKey"])
    own = shared_hub.token(f"devices/{device_id}", key=key)
    assert request(shared_hub, "GET", f"/devices/{device_id}?{VERSION}", token=own).status == 401


@pytest.mark.spec("S-19", "S-20", "S-21", "S-22", "S-23", "L-H5", "L-H7")
def test_paths_and_versions(shared_hub: HubInThread) -> None:
    put(shared_hub, "press-paths")
    odd = "a:b%25c(d)'e%2Bf@g%23!*"
    assert request(shared_hub, "PUT", f"/devices/{odd}?{VERSION}", {"deviceId": "a:b%c(d)'e+f@g#!*"}).status == 200

    def status(path: str, method: str = "GET") -> int:
        return request(shared_hub, method, path).status

    assert status(f"/devices/{odd}?{VERSION}") == 200
    assert status(f"/devices/?{VERSION}") == status(f"/DEVICES?{VERSION}") == status(f"/devices?{VERSION}") == 200
    assert status(f"/devices%2Fpress-paths?{VERSION}") == status(f"/devices%2fpress-paths?{VERSION}") == 200
    for version in ("2018-06-30", "2019-10-01", "2019-07-01-preview", "2020-03-13", "2020-09-30", "2024-03-31"):
        assert status(f"/devices/press-paths?api-version={version}") == 200
    for query in ("", "?api-version=", "?api-version=latest", "?api-version=2021-4-12"):
        answer = request(shared_hub, "GET", f"/devices/press-paths{query}")
        assert (answer.status, answer.code) == (400, "InvalidProtocolVersion")
    for path in (
        "/nothing",
        "/devices/../devices/x",
        "/devices/%2e%2e/x",
        "//devices",
        "/devices/a%00b",
        "/devices/a\\b",
    ):
        assert status(f"{path}?{VERSION}") == 404, path
    answer = request(shared_hub, "PATCH", f"/devices/press-paths?{VERSION}")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, PUT")


@pytest.mark.spec("S-24", "S-25", "S-26", "L-H8")
def test_conditions(shared_hub: HubInThread, device_id: str) -> None:
    etag = put(shared_hub, device_id).body["etag"]
    for form in ("*", '"*"', "{}", '"{}"', 'W/"{}"'):
        answer = put(shared_hub, device_id, form.format(etag))
        assert answer.status == 200, form
        etag = answer.body["etag"]
    before = get(shared_hub, device_id)
    for condition in ('"stale"', "AAAA", '"', "x y"):
        answer = put(shared_hub, device_id, condition)
        assert (answer.status, answer.code) == (412, "PreconditionFailed")
        assert answer.headers["iothub-errorcode"] == "PreconditionFailed"
    assert get(shared_hub, device_id).body == before.body
    path = f"/devices/{device_id}?{VERSION}"
    assert request(shared_hub, "DELETE", path, headers={"If-Match": '"stale"'}).status == 412
    assert request(shared_hub, "DELETE", path, headers={"If-Match": '"*"'}).status == 204
    assert request(shared_hub, "DELETE", path).status == 404


@pytest.mark.spec("S-27", "S-28", "S-29", "D-107")
def test_what_every_answer_has(shared_hub: HubInThread, device_id: str) -> None:
    created = put(shared_hub, device_id)
    missing = get(shared_hub, "nobody-here")
    for answer in (created, missing):
        assert "application/json" in answer.headers["content-type"]
        assert re.fullmatch("[0-9a-f-]{36}", answer.headers["x-ms-request-id"])
        assert "date" in answer.headers
    assert created.headers["etag"] == f'"{created.body["etag"]}"'
    assert missing.status == 404
    assert set(missing.body) == {"Message", "ExceptionMessage"}
    assert missing.code == "DeviceNotFound"
    assert re.fullmatch(
        r"Tracking ID:[0-9a-f]{32}-G:\d+-TimeStamp:\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", missing.body["ExceptionMessage"]
    )


@pytest.mark.spec("S-31", "S-32", "S-33", "S-34", "S-35", "S-36")
def test_the_life_of_an_identity(shared_hub: HubInThread, device_id: str) -> None:
    empty = {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}
    first = put(shared_hub, device_id, authentication=empty, status="enabled").body
    keys = first["authentication"]["symmetricKey"]
    assert keys["primaryKey"] != keys["secondaryKey"]
    assert all(len(base64.b64decode(key)) == 32 for key in keys.values())
    assert first["statusUpdatedTime"] == first["lastActivityTime"] == "0001-01-01T00:00:00Z"
    assert (put(shared_hub, device_id).status, put(shared_hub, device_id).code) == (409, "DeviceAlreadyExists")
    answer = put(shared_hub, f"{device_id}-none", "*")
    assert (answer.status, answer.code) == (404, "DeviceNotFound")
    assert get(shared_hub, device_id).body["etag"] == first["etag"]
    disabled = put(shared_hub, device_id, "*", status="DISABLED", statusReason="lost").body
    assert (disabled["status"], disabled["statusReason"]) == ("disabled", "lost")
    assert disabled["etag"] != first["etag"]
    assert disabled["statusUpdatedTime"].startswith("20")
    assert disabled["authentication"]["symmetricKey"] == keys, "an update that says nothing of them keeps them"
    assert disabled["generationId"] == first["generationId"]
    assert request(shared_hub, "DELETE", f"/devices/{device_id}?{VERSION}").status == 204
    assert put(shared_hub, device_id).body["generationId"] != first["generationId"]


@pytest.mark.spec("S-37", "S-38", "S-39", "L-I9", "L-D1")
def test_what_an_identity_may_be(shared_hub: HubInThread, device_id: str) -> None:
    def status(name: str = device_id, **members: object) -> int:
        answer = put(shared_hub, name, **members)
        request(shared_hub, "DELETE", f"/devices/{name}?{VERSION}")
        return answer.status

    def by_thumbprint(thumbprint: str | None) -> dict[str, object]:
        return {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}}

    for digits, expected in ((40, 200), (64, 200), (39, 400), (41, 400)):
        assert status(authentication=by_thumbprint("A" * digits)) == expected
    assert status(authentication=by_thumbprint(None)) == 400
    answer = put(shared_hub, device_id, authentication={"type": "certificateAuthority"})
    assert answer.body["authentication"]["type"] == "certificateAuthority"
    assert answer.body["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}
    request(shared_hub, "DELETE", f"/devices/{device_id}?{VERSION}")
    assert (status("i" * 128), status("i" * 129)) == (200, 400)
    assert [status(each) for each in ("a%20b", "a%22b", "a%E2%82%AC", "a%7Cb")] == [400] * 4
    assert status(statusReason="r" * 128) == 200
    assert status(statusReason="r" * 129) == 400
    assert status(status="asleep") == 400
    assert status(authentication={"type": "magic"}) == 400
    one_key = {"type": "sas", "symmetricKey": {"primaryKey": base64.b64encode(b"k" * 32).decode()}}
    assert status(authentication=one_key) == 400
    for size, expected in ((15, 400), (16, 200), (64, 200), (65, 400)):
        key = base64.b64encode(b"k" * size).decode()
        assert status(authentication={"symmetricKey": {"primaryKey": key, "secondaryKey": key}}) == expected
    bodies = (b"", b"{", b"[]", b'{"deviceId":1}', b'{"a":1,"a":2}', b"\xff", b'{"a":NaN}', b'{"a":1} x', b"[" * 5000)
    for body in bodies:
        assert request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", body).status == 400, body[:20]
    assert request(shared_hub, "PUT", f"/devices/{device_id}?{VERSION}", {"deviceId": "another"}).status == 400
    assert get(shared_hub, device_id).status == 404


@pytest.mark.spec("S-43", "S-44")
def test_lists_and_statistics() -> None:
    with HubInThread() as hub:
        request(hub, "DELETE", f"/devices/first-device?{VERSION}")
        for number in range(5):
            put(hub, f"d{number}", status="disabled" if number == 4 else "enabled")
        assert len(request(hub, "GET", f"/devices?top=1&{VERSION}").body) == 1
        assert [each["deviceId"] for each in request(hub, "GET", f"/devices?{VERSION}").body] == [
            f"d{number}" for number in range(5)
        ]
        for bad in ("0", "1001", "x", "-1"):
            assert request(hub, "GET", f"/devices?top={bad}&{VERSION}").status == 400
        counts = {"totalDeviceCount": 5, "enabledDeviceCount": 4, "disabledDeviceCount": 1}
        assert request(hub, "GET", f"/statistics/devices?{VERSION}").body == counts
        put(hub, "d4", "*", status="enabled")
        request(hub, "DELETE", f"/devices/d0?{VERSION}")
        counts = {"totalDeviceCount": 4, "enabledDeviceCount": 4, "disabledDeviceCount": 0}
        assert request(hub, "GET", f"/statistics/devices?{VERSION}").body == counts
        assert request(hub, "GET", f"/statistics/service?{VERSION}").body == {"connectedDeviceCount": 0}


def test_the_quota_of_identities() -> None:
    with HubInThread(limits={"identities": 2}) as hub:
        assert put(hub, "second").status == 200
        answer = put(hub, "third")
        assert (answer.status, answer.code) == (403, "IotHubQuotaExceeded")


def test_modules_count_for_the_quota_whichever_way_they_come_and_go() -> None:
    def module(name: str) -> Answer:
        path = f"/devices/{name.replace('/', '/modules/')}?{VERSION}"
        device_id, _, module_id = name.partition("/")
        return request(hub, "PUT", path, {"deviceId": device_id, "moduleId": module_id})

    def bulk(*records: dict[str, object]) -> list[str]:
        answer = request(hub, "POST", f"/devices?{VERSION}", list(records))
        return [each["errorCode"] for each in answer.body["errors"]]

    with HubInThread(limits={"identities": 5}) as hub:  # the first device is there already
        put(hub, "a")
        assert [module(f"a/m{number}").status for number in range(4)] == [200, 200, 200, 403]
        assert put(hub, "b").code == "IotHubQuotaExceeded"
        assert request(hub, "DELETE", f"/devices/a/modules/m0?{VERSION}").status == 204
        edge = {"deviceId": "edge", "capabilities": {"iotEdge": True}}
        assert request(hub, "PUT", f"/devices/edge?{VERSION}", edge).status == 403, "it brings two modules with it"
        record = {"id": "a", "moduleId": "m4", "importMode": "create"}
        assert bulk(record, {**record, "moduleId": "m5"}) == ["IotHubQuotaExceeded"]
        assert request(hub, "DELETE", f"/devices/a?{VERSION}").status == 204  # and its three modules
        assert request(hub, "PUT", f"/devices/edge?{VERSION}", edge).status == 200
        assert bulk({"id": "c", "importMode": "create"}, {"id": "d", "importMode": "create"}) == ["IotHubQuotaExceeded"]
        assert bulk({"id": "edge", "importMode": "delete"}) == []  # and its two modules
        assert [module("c/m").status, module("c/n").status, put(hub, "d").status] == [200, 200, 200]
        assert put(hub, "e").status == 403
