"""What the ``az iot`` commands send to a hub, as it stands on the wire: paths, headers, versions and tokens of theirs.

Source: service-protocols 1.2, 2 and proved-on-clients 4; the command line itself is not run here.
"""

import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from hmac import digest
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from conversations.container_peer import container_peer
from conversations.https_peer import Answer, request
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

VERSION = "api-version=2024-03-31"
DTMI = "dtmi:example:press;1"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread(egress={"allow": ["127.0.0.1"]}) as hub:
        yield hub


def token(hub: HubInThread, path: str = "") -> str:
    """Of the policy, its fields form-encoded; for a device it names that in ``sr`` and the policy all the same."""
    values = dict(each.split("=", 1) for each in hub.connection_string.split(";"))
    uri, expiry = f"{values['HostName']}{path}", int(time.time()) + 3600
    text = f"{quote_plus(uri)}\n{expiry}".encode()
    signature = b64encode(digest(b64decode(values["SharedAccessKey"]), text, sha256))
    fields = {"sr": uri, "sig": signature, "se": str(expiry), "skn": values["SharedAccessKeyName"]}
    return f"SharedAccessSignature {urlencode(fields)}"


def az(hub: HubInThread, method: str, path: str, body: Any = None, *, of: str = "", **headers: str) -> Answer:
    """headers: with underscores for hyphens. of: the device for which the command acts."""
    separator = "&" if "?" in path else "?"
    given = {
        "Accept": "application/json",
        "accept-language": "en-US",
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "IoTPlatformCliExtension/0.25.0 (IoT Hub data plane)",
        "x-ms-client-request-id": str(uuid.uuid4()),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return request(hub, method, f"{path}{separator}{VERSION}", body, token=token(hub, of), headers=given)


def query(hub: HubInThread, text: str, size: str = "100") -> list[Any]:
    """All rows: it goes on while the header is not empty."""
    rows: list[Any] = []
    continuation = ""
    while True:
        more = {"x_ms_continuation": continuation} if continuation else {}
        page = az(hub, "POST", "/devices/query", {"query": text}, x_ms_max_item_count=size, **more)
        assert page.status == 200
        rows += page.body
        continuation = page.headers.get("x-ms-continuation", "")
        if not continuation:
            return rows


def make(hub: HubInThread, device_id: str, *, edge: bool = False) -> Any:
    body = {
        "deviceId": device_id,
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None}},
        "capabilities": {"iotEdge": edge},
        "status": "enabled",
    }
    made = az(hub, "PUT", f"/devices/{device_id}", body)
    assert made.status == 200, made.body
    return made.body


def test_device_identity(hub: HubInThread) -> None:
    device = make(hub, "az-1")
    assert device["authentication"]["symmetricKey"]["primaryKey"]
    assert az(hub, "GET", "/devices/az-1").body == device
    device["status"] = "disabled"
    updated = az(hub, "PUT", "/devices/az-1", device, If_Match=f'"{device["etag"]}"')
    assert (updated.status, updated.body["status"]) == (200, "disabled")
    assert az(hub, "PUT", "/devices/az-1", device, If_Match=f'"{device["etag"]}"').status == 412
    assert az(hub, "PUT", "/devices/az-1", device, If_Match='"*"').status == 200
    make(hub, "az-edge", edge=True)
    make(hub, "az-2")
    assert {each["deviceId"] for each in query(hub, "SELECT * FROM devices", "2")} >= {"az-1", "az-2", "az-edge"}
    edges = query(hub, "select * from devices where capabilities.iotEdge = true")
    assert [each["deviceId"] for each in edges] == ["az-edge"]
    assert az(hub, "DELETE", "/devices/az-2", If_Match='"*"').status == 204
    assert az(hub, "GET", "/devices/az-2").code == "DeviceNotFound"


def test_children_of_an_edge_device(hub: HubInThread) -> None:
    parent, child = make(hub, "az-parent", edge=True), make(hub, "az-child")
    child |= {"deviceScope": parent["deviceScope"], "parentScopes": [parent["deviceScope"]]}
    assert az(hub, "PUT", "/devices/az-child", child, If_Match='"*"').body["parentScopes"] == [parent["deviceScope"]]
    rows = query(hub, "SELECT deviceId, deviceScope FROM devices")
    assert {"deviceId": "az-child", "deviceScope": parent["deviceScope"]} in rows


def test_keys_are_renewed_in_bulk(hub: HubInThread) -> None:
    before = make(hub, "az-keys")["authentication"]["symmetricKey"]
    body = {"policyKey": "primaryKey", "devices": [{"id": "az-keys", "moduleId": None}, {"id": "nobody"}]}
    renewed = az(hub, "POST", "/devices/keys/regenerate", body)
    assert (renewed.status, renewed.body["policyKey"]) == (207, "primaryKey")
    (keys,) = renewed.body["rotatedKeys"]
    assert keys["primaryKey"] != before["primaryKey"]
    assert keys["secondaryKey"] == before["secondaryKey"]
    assert [each["id"] for each in renewed.body["errors"]] == ["nobody"]


def test_module_identity_and_twins(hub: HubInThread) -> None:
    make(hub, "az-mod")
    body = {"deviceId": "az-mod", "moduleId": "m", "authentication": {"type": "sas"}}
    assert az(hub, "PUT", "/devices/az-mod/modules/m", body).status in (200, 201)
    assert [each["moduleId"] for each in az(hub, "GET", "/devices/az-mod/modules").body] == ["m"]
    (row,) = query(hub, "select * from devices.modules where devices.deviceId = 'az-mod'")
    assert row["moduleId"] == "m"
    patch = {"properties": {"desired": {"a": 1}}, "tags": {"hall": 3}}
    for path in ("/twins/az-mod", "/twins/az-mod/modules/m"):
        changed = az(hub, "PATCH", path, patch, If_Match='"*"')
        assert (changed.status, changed.body["properties"]["desired"]["a"]) == (200, 1)
        replaced = az(
            hub, "PUT", path, {"properties": {"desired": {}}, "tags": {}}, If_Match=f'"{changed.body["etag"]}"'
        )
        assert (replaced.status, "tags" in replaced.body) == (200, False)
    assert az(hub, "DELETE", "/devices/az-mod/modules/m", If_Match='"*"').status == 204


def test_methods_and_commands_of_a_device_that_is_away(hub: HubInThread) -> None:
    make(hub, "az-away")
    body = {"methodName": "reboot", "payload": {}, "responseTimeoutInSeconds": 10, "connectTimeoutInSeconds": 0}
    called = az(hub, "POST", "/twins/az-away/methods", body)
    assert (called.status, called.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
    shown = az(hub, "GET", "/digitaltwins/az-away")
    assert (shown.status, shown.body["$dtId"]) == (200, "az-away")
    operations = [{"op": "add", "path": "/rpm", "value": 800}]
    assert az(hub, "PATCH", "/digitaltwins/az-away", operations, If_Match="*").status == 202


def test_configurations_with_their_metrics(hub: HubInThread) -> None:
    make(hub, "az-conf")
    body = {
        "id": "az-tune",
        "schemaVersion": "2.0",
        "labels": {"team": "ops"},
        "content": {"deviceContent": {"properties.desired.rpm": 800}},
        "contentType": "assignment",
        "targetCondition": "deviceId = 'az-conf'",
        "priority": 3,
        "metrics": {"queries": {"mine": "SELECT deviceId FROM devices"}, "results": {}},
        "etag": "*",
    }
    assert az(hub, "PUT", "/configurations/az-tune", body).status == 200
    assert az(hub, "PUT", "/configurations/az-tune", body).code == "ConfigurationAlreadyExists"

    def applied() -> bool:
        shown = az(hub, "GET", "/configurations/az-tune").body
        return query(hub, shown["systemMetrics"]["queries"]["appliedCount"]) == [{"deviceId": "az-conf"}]

    assert eventually(applied)
    listed = az(hub, "GET", "/configurations?top=100").body
    assert [each["labels"] for each in listed if each["id"] == "az-tune"] == [{"team": "ops"}]
    updated = az(hub, "PUT", "/configurations/az-tune", {**body, "priority": 4}, If_Match=f'"{listed[0]["etag"]}"')
    assert (updated.status, updated.body["priority"]) == (200, 4)
    assert az(hub, "DELETE", "/configurations/az-tune", If_Match='"*"').status == 204


def test_modules_are_set_on_one_edge_device_and_deployed(hub: HubInThread) -> None:
    make(hub, "az-deploy", edge=True)
    whole: dict[str, Any] = {"properties.desired": {"schemaVersion": "1.1"}}
    content = {"modulesContent": {"$edgeAgent": whole, "$edgeHub": whole, "sensor": {"properties.desired": {}}}}
    assert az(hub, "POST", "/devices/az-deploy/applyConfigurationContent", content).status == 204
    rows = query(hub, "select * from devices.modules where devices.deviceId = 'az-deploy'")
    assert sorted(each["moduleId"] for each in rows) == ["$edgeAgent", "$edgeHub", "sensor"]
    deployment = {"id": "az-dep", "content": content, "targetCondition": "", "priority": 1, "labels": {}, "etag": "*"}
    made = az(hub, "PUT", "/configurations/az-dep", deployment)
    assert (made.status, set(made.body["systemMetrics"]["queries"])) == (
        200,
        {"targetedCount", "appliedCount", "reportedSuccessfulCount", "reportedFailedCount"},
    )
    assert az(hub, "DELETE", "/configurations/az-dep", If_Match='"*"').status == 204


def test_jobs_of_both_kinds(hub: HubInThread) -> None:
    make(hub, "az-job")
    twin = {"tags": {"a": 1}, "etag": "*"}
    job = {
        "jobId": "az-night",
        "type": "scheduleUpdateTwin",
        "updateTwin": twin,
        "queryCondition": "deviceId = 'az-job'",
        "startTime": "",
        "maxExecutionTimeInSeconds": 300,
    }
    assert az(hub, "PUT", "/jobs/v2/az-night", job).status == 200
    assert eventually(lambda: az(hub, "GET", "/jobs/v2/az-night").body["status"] == "completed")
    assert [each["jobId"] for each in az(hub, "GET", "/jobs/v2/query", x_ms_max_item_count="100").body] == ["az-night"]
    assert az(hub, "GET", "/jobs").body == []
    with container_peer() as container:
        made = az(hub, "POST", "/jobs/create", {"type": "export", "outputBlobContainerUri": container.url}).body
        # the other kind is asked for first, and what is unknown there is looked up here
        other = az(hub, "GET", f"/jobs/v2/{made['jobId']}")
        assert (other.status, other.body["status"], other.body["jobId"]) == (200, "unknown", made["jobId"])
        assert eventually(lambda: az(hub, "GET", f"/jobs/{made['jobId']}").body["status"] == "completed")
    assert az(hub, "GET", "/jobs/v2/nobody").code == "JobNotFound"


def test_messages_to_a_device_received_with_the_key_of_a_policy(hub: HubInThread) -> None:
    make(hub, "az-c2d")
    of, queue = "/devices/az-c2d", "/devices/az-c2d/messages/deviceBound"
    for text in ("one", "two", "three"):
        sent = az(hub, "POST", queue, text.encode(), Content_Type="text/plain")
        assert sent.status == 204
    taken = az(hub, "GET", queue, of=of, iothub_messagelocktimeout="60")
    assert (taken.status, taken.body) == (200, b"one")
    lock = taken.headers["etag"].strip('"')
    assert az(hub, "DELETE", f"{queue}/{lock}", of=of).status == 204
    second = az(hub, "GET", queue, of=of, iothub_messagelocktimeout="60")
    lock = second.headers["etag"].strip('"')
    assert az(hub, "POST", f"{queue}/{lock}/abandon", of=of).status == 204
    assert az(hub, "GET", queue, of="/devices/az-other").status == 401
    purged = az(hub, "DELETE", "/devices/az-c2d/commands")
    assert (purged.status, purged.body) == (
        200,
        {"totalMessagesPurged": 2, "deviceId": "az-c2d", "moduleId": None},
    )
    assert az(hub, "GET", queue, of=of).status == 204


def test_a_message_and_a_file_of_a_device_sent_with_the_key_of_a_policy(hub: HubInThread) -> None:
    make(hub, "az-send")
    of = "/devices/az-send"
    sent = az(hub, "POST", "/devices/az-send/messages/events", b"hello", of=of, iothub_app_level="high")
    assert sent.status == 204
    begun = az(hub, "POST", "/devices/az-send/files", {"blobName": "a.bin"}, of=of)
    assert begun.status == 200
    done = {"correlationId": begun.body["correlationId"], "isSuccess": False, "statusCode": 0, "statusDescription": ""}
    assert az(hub, "POST", "/devices/az-send/files/notifications", done, of=of).status == 204


def test_statistics(hub: HubInThread) -> None:
    counts = az(hub, "GET", "/statistics/devices").body
    assert counts["totalDeviceCount"] == counts["enabledDeviceCount"] + counts["disabledDeviceCount"]
