"""Digital twins by azure-iot-hub (Python), of a device with a plug and play model, and refusals over HTTPS."""

from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse

from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")

MODEL = "dtmi:example:press;1"


@pytest.mark.spec("S-93", "S-94", "S-95")
def test_python(shared_hub: HubInThread, device_id: str) -> None:
    device = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id), product_info=MODEL)
    heard: list[Any] = []

    def answer(call: Any) -> None:
        heard.append((call.name, call.payload))
        device.send_method_response(MethodResponse.create_from_method_request(call, 201, {"got": call.payload}))

    device.connect()
    device.on_method_request_received = answer
    client = hub_client.DigitalTwinClient.from_connection_string(shared_hub.connection_string)
    operations = [
        {"op": "add", "path": "/rate", "value": 5},
        {"op": "add", "path": "/thermostat1/setPoint", "value": 21},
        {"op": "add", "path": "/fan", "value": {"$metadata": {}, "on": True}},
        {"op": "add", "path": "/gone", "value": 1},
        {"op": "remove", "path": "/gone"},
    ]
    client.update_digital_twin(device_id, operations)
    desired = device.get_twin()["desired"]
    assert desired == {
        "rate": 5,
        "thermostat1": {"setPoint": 21, "__t": "c"},
        "fan": {"on": True, "__t": "c"},
        "$version": 2,
    }
    acknowledged = {"value": 21, "ac": 200, "av": 2, "ad": "done"}
    device.patch_twin_reported_properties({"serial": "A1", "thermostat1": {"__t": "c", "setPoint": acknowledged}})
    twin = client.get_digital_twin(device_id)
    stamp = twin["$metadata"]["serial"]["lastUpdateTime"]
    assert twin == {
        "$dtId": device_id,
        "serial": "A1",
        "thermostat1": {
            "setPoint": 21,
            "$metadata": {
                "setPoint": {
                    "desiredValue": 21,
                    "desiredVersion": 2,
                    "ackCode": 200,
                    "ackVersion": 2,
                    "ackDescription": "done",
                    "lastUpdateTime": stamp,
                }
            },
        },
        "fan": {"$metadata": {"on": {"desiredValue": True, "desiredVersion": 2}}},
        "$metadata": {
            "$model": MODEL,
            "serial": {"lastUpdateTime": stamp},
            "rate": {"desiredValue": 5, "desiredVersion": 2},
        },
    }
    assert client.invoke_command(device_id, "reboot", "5", 10, 10) == {"got": "5"}
    assert client.invoke_component_command(device_id, "thermostat1", "reset", {"n": 1}, 10, 10) == {"got": {"n": 1}}
    assert heard == [("reboot", "5"), ("thermostat1*reset", {"n": 1})]
    raw = request(shared_hub, "POST", f"/digitaltwins/{device_id}/commands/reboot?{VERSION}", b"5")
    assert (raw.status, raw.headers["x-ms-command-statuscode"], raw.body) == (200, "201", {"got": 5})
    assert raw.headers["x-ms-request-id"]
    device.shutdown()


def patch(hub: HubInThread, device_id: str, body: Any, etag: str = "") -> Any:
    headers = {"If-Match": etag} if etag else {}
    return request(hub, "PATCH", f"/digitaltwins/{device_id}?{VERSION}", body, headers=headers)


@pytest.mark.spec("S-94")
def test_etags_and_refusals(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    before = request(shared_hub, "GET", f"/digitaltwins/{device_id}?{VERSION}")
    assert before.body == {"$dtId": device_id, "$metadata": {}}
    etag = before.headers["etag"]
    done = patch(shared_hub, device_id, [{"op": "replace", "path": "/a", "value": {"b": 1}}], etag)
    assert (done.status, done.body) == (202, b"")
    assert done.headers["location"] == f"/digitaltwins/{device_id}"
    assert done.headers["etag"] == request(shared_hub, "GET", f"/digitaltwins/{device_id}?{VERSION}").headers["etag"]
    assert patch(shared_hub, device_id, [{"op": "remove", "path": "/a"}], etag).status == 412
    for wrong in (
        {"op": "add", "path": "/a", "value": 1},
        [{"op": "test", "path": "/a", "value": 1}],
        [{"op": "add", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/a/b/c", "value": 1}],
        [{"op": "add", "path": "/$metadata", "value": 1}],
        [{"op": "add", "path": "/a.b", "value": 1}],
    ):
        assert patch(shared_hub, device_id, wrong).status == 400, wrong
    assert patch(shared_hub, "nobody", []).status == 404
    away = request(shared_hub, "POST", f"/digitaltwins/{device_id}/commands/reboot?{VERSION}")
    assert (away.status, away.headers["iothub-errorcode"]) == (404, "DeviceNotOnline")
