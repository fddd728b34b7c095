"""Twins with unmodified clients: azure-iot-device and azure-iot-hub (Python), their Node siblings."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError

from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread


@pytest.fixture
def registry(shared_hub: HubInThread) -> Iterator[Any]:
    module = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
    manager = module.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    yield manager
    manager.protocol.close()


def twin_of(**parts: Any) -> Any:
    from azure.iot.hub.models import Twin, TwinProperties

    properties = TwinProperties(desired=parts.pop("desired")) if "desired" in parts else None
    return Twin(properties=properties, **parts)


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websockets"])
def test_python_device(shared_hub: HubInThread, registry: Any, device_id: str, websockets: bool) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(
        shared_hub.create_device(device_id), websockets=websockets
    )
    patches: list[Any] = []
    client.on_twin_desired_properties_patch_received = patches.append
    client.connect()
    assert client.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    client.patch_twin_reported_properties({"fw": "1.2", "net": {"ip": "10.0.0.1", "up": True}})
    client.patch_twin_reported_properties({"net": {"up": None}})
    assert client.get_twin()["reported"] == {"fw": "1.2", "net": {"ip": "10.0.0.1"}, "$version": 3}
    registry.update_twin(device_id, twin_of(desired={"interval": 5, "fan": {"on": True}}))
    registry.update_twin(device_id, twin_of(desired={"fan": None}))
    assert eventually(lambda: len(patches) == 2), patches
    assert patches == [
        {"interval": 5, "fan": {"on": True}, "$version": 2},
        {"fan": None, "$version": 3},
    ]
    with pytest.raises(ClientError) as failed:
        client.patch_twin_reported_properties({"a.b": 1})
    assert "400" in str(failed.value.__cause__)
    assert client.get_twin()["desired"] == {"interval": 5, "$version": 3}
    client.shutdown()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves a socket open
def test_python_device_hears_of_what_it_missed(shared_hub: HubInThread, registry: Any, device_id: str) -> None:
    """It connects again without subscribing again, and asks for its twin at once (device-protocols 3.14)."""
    client = IoTHubDeviceClient.create_from_connection_string(
        shared_hub.create_device(device_id), ensure_desired_properties=True
    )
    patches: list[Any] = []
    client.connect()
    client.get_twin()  # before the handler: else the client asks before it has subscribed, and waits for ever
    client.on_twin_desired_properties_patch_received = patches.append
    registry.update_twin(device_id, twin_of(desired={"n": 1}))
    assert eventually(lambda: len(patches) == 1)
    client.disconnect()
    registry.update_twin(device_id, twin_of(desired={"n": 2}))
    client.connect()
    assert eventually(lambda: len(patches) == 2), patches
    assert patches[1]["n"] == 2
    registry.update_twin(device_id, twin_of(desired={"n": 3}))
    assert eventually(lambda: len(patches) == 3)
    client.shutdown()


def test_python_service(shared_hub: HubInThread, registry: Any, device_id: str) -> None:
    from msrest.exceptions import HttpOperationError

    shared_hub.create_device(device_id)
    fresh = registry.get_twin(device_id)
    assert (fresh.device_id, fresh.version, fresh.tags) == (device_id, 2, None)
    changed = registry.update_twin(device_id, twin_of(tags={"a": 1, "b": {"c": 2}}, desired={"x": 1}), fresh.etag)
    assert changed.properties.desired["x"] == 1
    assert changed.properties.desired["$metadata"]["x"]["$lastUpdatedVersion"] == 2
    with pytest.raises(HttpOperationError) as failed:
        registry.update_twin(device_id, twin_of(tags={"a": 2}), fresh.etag)
    assert failed.value.response.status_code == 412
    replaced = registry.replace_twin(device_id, twin_of(tags={"z": 9}))
    assert replaced.tags == {"z": 9}
    assert set(replaced.properties.desired) == {"$metadata", "$version"}
    with pytest.raises(HttpOperationError) as failed:
        registry.get_twin("nobody")
    assert "ErrorCode:DeviceNotFound" in failed.value.response.text


def check_node(seen: Any) -> None:
    assert seen["initial"] == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    assert seen["deltas"] == [
        {"$version": 1},
        {"interval": 5, "fan": {"on": True}, "$version": 2},
        {"fan": None, "$version": 3},
    ]
    assert (bool(seen["refused"]), seen["stale"]) == (True, "InvalidEtagError")
    assert seen["changed"]["tags"] == seen["after"]["tags"] == {"site": "x"}
    reported = seen["after"]["properties"]["reported"]
    assert (reported["fw"], reported["net"], reported["$version"]) == ("1.2", {"ip": "10.0.0.1"}, 3)
    assert seen["after"]["properties"]["desired"]["interval"] == 5


@pytest.mark.parametrize("protocol", ["Mqtt", "MqttWs", "Amqp", "AmqpWs"])
def test_node(shared_hub: HubInThread, device_id: str, node: Any, protocol: str) -> None:
    check_node(node("twin.js", protocol, shared_hub.create_device(device_id), shared_hub.connection_string))
