"""Modules with unmodified clients: IoTHubModuleClient, azure-iot-hub (Python), their Node siblings."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubModuleClient, Message, MethodResponse

from compatibility.test_methods import check_node as check_methods
from compatibility.test_twins import check_node as check_twins
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

models = pytest.importorskip("azure.iot.hub.models", reason="azure-iot-hub is not installed")


@pytest.fixture
def registry(shared_hub: HubInThread) -> Iterator[Any]:
    from azure.iot.hub import IoTHubRegistryManager

    manager = IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    yield manager
    manager.protocol.close()


@pytest.fixture
def connection_string(shared_hub: HubInThread, registry: Any, device_id: str) -> str:
    """Of the module ``cam`` of this test's device."""
    shared_hub.create_device(device_id)
    module = registry.create_module_with_sas(device_id, "cam", "somebody", "", "")
    key = module.authentication.symmetric_key.primary_key
    return f"HostName={shared_hub.host_name};DeviceId={device_id};ModuleId=cam;SharedAccessKey={key}"


def test_registry(shared_hub: HubInThread, registry: Any, device_id: str) -> None:
    from msrest.exceptions import HttpOperationError

    shared_hub.create_device(device_id)
    created = registry.create_module_with_sas(device_id, "m", "somebody", "", "")
    assert (created.module_id, created.managed_by) == ("m", "somebody")
    assert registry.get_module(device_id, "m").etag == created.etag
    assert [each.module_id for each in registry.get_modules(device_id)] == ["m"]
    keys = created.authentication.symmetric_key
    updated = registry.update_module_with_sas(
        device_id, "m", "other", created.etag, keys.secondary_key, keys.primary_key
    )
    assert updated.authentication.symmetric_key.primary_key == keys.secondary_key
    registry.delete_module(device_id, "m")
    with pytest.raises(HttpOperationError) as failed:
        registry.get_module(device_id, "m")
    assert "ErrorCode:ModuleNotFound" in failed.value.response.text


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_python(
    shared_hub: HubInThread, registry: Any, device_id: str, connection_string: str, websockets: bool
) -> None:
    client = IoTHubModuleClient.create_from_connection_string(connection_string, websockets=websockets)
    patches: list[Any] = []

    def answer(request: Any) -> None:
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))

    client.connect()
    client.on_message_received = lambda _message: None  # inputs: accepted, and silent on a hub
    client.on_method_request_received = answer
    client.get_twin()
    client.on_twin_desired_properties_patch_received = patches.append
    client.send_message("telemetry")
    client.send_message_to_output(Message("an alarm"), "alarms")
    client.patch_twin_reported_properties({"fw": 1})
    twin = models.Twin(properties=models.TwinProperties(desired={"interval": 5}))
    registry.update_module_twin(device_id, "cam", twin)
    assert eventually(lambda: patches == [{"interval": 5, "$version": 2}]), patches
    assert client.get_twin() == {"desired": {"interval": 5, "$version": 2}, "reported": {"fw": 1, "$version": 2}}
    call = models.CloudToDeviceMethod(method_name="echo", payload=[1], connect_timeout_in_seconds=5)
    assert registry.invoke_device_module_method(device_id, "cam", call).payload == [1]
    assert registry.get_module_twin(device_id, "cam").properties.reported["fw"] == 1
    client.shutdown()
    events = shared_hub.wait_for_events(2, device=device_id)
    assert [each["body"] for each in events] == ["telemetry", "an alarm"]
    assert {each["annotations"]["iothub-connection-module-id"] for each in events} == {"cam"}


@pytest.mark.parametrize("protocol", ["Mqtt", "MqttWs", "Amqp", "AmqpWs"])
def test_node_twin(shared_hub: HubInThread, connection_string: str, node: Any, protocol: str) -> None:
    check_twins(node("twin.js", protocol, connection_string, shared_hub.connection_string))


@pytest.mark.parametrize("protocol", ["Mqtt", "Amqp"])
def test_node_methods(shared_hub: HubInThread, connection_string: str, node: Any, protocol: str) -> None:
    check_methods(node("method.js", protocol, connection_string, shared_hub.connection_string))
