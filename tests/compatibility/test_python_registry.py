"""azure-iot-hub (Python) against the registry."""

import base64

import pytest

from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
msrest = pytest.importorskip("msrest.exceptions")

PRIMARY, SECONDARY = (base64.b64encode(each * 32).decode() for each in (b"p", b"s"))


@pytest.mark.spec("S-30", "S-14")
def test_the_registry(shared_hub: HubInThread, device_id: str) -> None:
    registry = hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    created = registry.create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled", status_reason="new")
    assert created.authentication.symmetric_key.primary_key == PRIMARY
    assert created.capabilities.iot_edge is False
    got = registry.get_device(device_id)
    assert (got.etag, got.status_reason, got.connection_state) == (created.etag, "new", "Disconnected")
    updated = registry.update_device_with_sas(device_id, got.etag, SECONDARY, PRIMARY, "disabled", status_reason="lost")
    assert (updated.status, updated.authentication.symmetric_key.primary_key) == ("disabled", SECONDARY)
    with pytest.raises(msrest.HttpOperationError) as failed:
        registry.update_device_with_sas(device_id, got.etag, PRIMARY, SECONDARY, "enabled")
    assert failed.value.response.status_code == 412
    assert device_id in {each.device_id for each in registry.get_devices()}
    statistics = registry.get_device_registry_statistics()
    assert statistics.total_device_count == statistics.enabled_device_count + statistics.disabled_device_count
    assert statistics.disabled_device_count == 1
    assert registry.get_service_statistics().connected_device_count == 0
    registry.delete_device(device_id)
    with pytest.raises(msrest.HttpOperationError) as failed:
        registry.get_device(device_id)
    assert failed.value.response.reason == "Not Found"
    assert "ErrorCode:DeviceNotFound" in failed.value.response.text


@pytest.mark.spec("S-10", "S-11", "S-12")
def test_policies(shared_hub: HubInThread, device_id: str) -> None:
    def registry(policy: str) -> object:
        return hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.policy_connection_string(policy))

    registry("registryReadWrite").create_device_with_sas(device_id, PRIMARY, SECONDARY, "enabled")
    assert registry("registryRead").get_device(device_id).device_id == device_id
    for policy in ("registryRead", "service", "device"):
        with pytest.raises(msrest.HttpOperationError) as failed:
            registry(policy).delete_device(device_id)
        assert failed.value.response.status_code == 401
    registry("registryReadWrite").delete_device(device_id)


def test_many_devices_at_once(shared_hub: HubInThread, device_id: str) -> None:
    registry = hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    models = pytest.importorskip("azure.iot.hub.models")
    ids = [f"{device_id}-{number}" for number in range(100)]
    sas = models.AuthenticationMechanism(
        type="sas", symmetric_key=models.SymmetricKey(primary_key=PRIMARY, secondary_key=SECONDARY)
    )
    devices = [
        models.ExportImportDevice(
            id=each, import_mode="create", status="enabled", authentication=sas, tags={"fleet": device_id}
        )
        for each in ids
    ]
    result = registry.bulk_create_or_update_devices(devices)
    assert (result.is_successful, result.errors) == (True, [])
    assert registry.get_device(ids[99]).authentication.symmetric_key.secondary_key == SECONDARY
    assert registry.get_twin(ids[0]).tags == {"fleet": device_id}
    again = registry.bulk_create_or_update_devices(devices[:2])
    assert (again.is_successful, [each.error_code for each in again.errors]) == (False, ["DeviceAlreadyExists"] * 2)
    gone = [models.ExportImportDevice(id=each, import_mode="delete") for each in ids]
    assert registry.bulk_create_or_update_devices(gone).is_successful
    with pytest.raises(msrest.HttpOperationError, match="Not Found"):
        registry.get_device(ids[5])
