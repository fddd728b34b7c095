"""Direct methods with unmodified clients: azure-iot-device and azure-iot-hub (Python), their Node siblings."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient as AsyncClient

from hubkeep.testing import HubInThread

models = pytest.importorskip("azure.iot.hub.models", reason="azure-iot-hub is not installed")


@pytest.fixture
def registry(shared_hub: HubInThread) -> Iterator[Any]:
    from azure.iot.hub import IoTHubRegistryManager

    manager = IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    yield manager
    manager.protocol.close()


def method(name: str, payload: Any = None, seconds: int = 10) -> Any:
    return models.CloudToDeviceMethod(
        method_name=name, payload=payload, response_timeout_in_seconds=seconds, connect_timeout_in_seconds=5
    )


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_python(shared_hub: HubInThread, registry: Any, device_id: str, websockets: bool) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(
        shared_hub.create_device(device_id), websockets=websockets
    )
    heard: list[Any] = []

    def answer(request: Any) -> None:
        heard.append((request.name, request.payload))
        status = 500 if request.name == "broken" else 200
        client.send_method_response(
            MethodResponse.create_from_method_request(request, status, {"got": request.payload})
        )

    client.on_method_request_received = answer
    client.connect()
    for payload in ({"soft": True}, [1, None], "text", 5, False):
        result = registry.invoke_device_method(device_id, method("echo", payload))
        assert (result.status, result.payload) == (200, {"got": payload})
    # the client sends an empty text for no payload
    assert registry.invoke_device_method(device_id, method("echo")).payload == {"got": ""}
    assert registry.invoke_device_method(device_id, method("broken", {})).status == 500
    assert heard[0] == ("echo", {"soft": True})
    client.shutdown()
    from msrest.exceptions import HttpOperationError

    with pytest.raises(HttpOperationError) as failed:
        registry.invoke_device_method(
            device_id, models.CloudToDeviceMethod(method_name="echo", connect_timeout_in_seconds=0)
        )
    assert failed.value.response.status_code == 404
    assert failed.value.response.headers["iothub-errorcode"] == "DeviceNotOnline"


async def test_python_asyncio(shared_hub: HubInThread, registry: Any, device_id: str) -> None:
    client = AsyncClient.create_from_connection_string(shared_hub.create_device(device_id))

    async def answer(request: Any) -> None:
        await client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))

    client.on_method_request_received = answer
    await client.connect()
    loop = asyncio.get_running_loop()
    calls = [
        loop.run_in_executor(None, registry.invoke_device_method, device_id, method("echo", number))
        for number in range(8)
    ]
    assert [each.payload for each in await asyncio.gather(*calls)] == list(range(8))
    await client.shutdown()


def check_node(seen: Any) -> None:
    assert seen["offline"]["status"] == 404
    assert [(each["status"], each["payload"]) for each in seen["answers"]] == [
        (200, {"soft": True}),
        (200, [1, "x", None]),
        (200, "text"),
        (200, 5),
        (200, False),
    ]
    assert (seen["none"]["status"], seen["broken"]["status"]) == (200, 500)
    assert [each["payload"] for each in seen["together"]] == [1, 2, 3, 4]
    assert seen["silent"]["status"] == 504
    assert seen["heard"][0] == ["echo", {"soft": True}]


@pytest.mark.parametrize("protocol", ["Mqtt", "MqttWs", "Amqp", "AmqpWs"])
def test_node(shared_hub: HubInThread, device_id: str, node: Any, protocol: str) -> None:
    check_node(node("method.js", protocol, shared_hub.create_device(device_id), shared_hub.connection_string))
