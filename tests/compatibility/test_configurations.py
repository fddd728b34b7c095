"""Configurations by azure-iot-hub (Python) and azure-iothub (Node)."""

from typing import Any

import pytest

from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
models = pytest.importorskip("azure.iot.hub.models")


@pytest.mark.spec("S-83", "S-85", "S-86")
def test_python(shared_hub: HubInThread, device_id: str) -> None:
    from msrest.exceptions import HttpOperationError

    shared_hub.create_device(device_id)
    manager = hub_client.IoTHubConfigurationManager.from_connection_string(shared_hub.connection_string)
    registry = hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)

    def rate() -> Any:
        return registry.get_twin(device_id).properties.desired.get("rate")

    wanted = models.Configuration(
        id="py-tune",
        content=models.ConfigurationContent(device_content={"properties.desired.rate": 7}),
        target_condition=f"deviceId = '{device_id}'",
        metrics=models.ConfigurationMetrics(queries={"all": f"SELECT * FROM devices WHERE deviceId = '{device_id}'"}),
        priority=3,
    )
    made = manager.create_configuration(wanted)
    assert (made.etag, made.priority) == ("MQ==", 3)
    with pytest.raises(HttpOperationError) as failed:
        manager.create_configuration(wanted)
    assert failed.value.response.status_code == 409
    assert eventually(lambda: rate() == 7)
    assert eventually(
        lambda: manager.get_configuration("py-tune").system_metrics.results == {"targetedCount": 1, "appliedCount": 1}
    )
    assert manager.get_configuration("py-tune").metrics.results == {"all": 1}
    made.priority = 4
    assert manager.update_configuration(made, made.etag).priority == 4
    assert [each.id for each in manager.get_configurations(100)] == ["py-tune"]
    asked = models.ConfigurationQueriesTestInput(target_condition="tags.a =", custom_metric_queries={"m": "SELECT"})
    tested = manager.test_configuration_queries(asked)
    assert "not valid" in tested.target_condition_error
    assert "not valid" in tested.custom_metric_query_errors["m"]
    content = models.ConfigurationContent(modules_content={"vision": {"properties.desired": {"z": 1}}})
    manager.apply_configuration_on_edge_device(device_id, content)
    assert registry.get_module_twin(device_id, "vision").properties.desired["z"] == 1
    manager.delete_configuration("py-tune")
    assert eventually(lambda: rate() is None)
    manager.protocol.close()
    registry.protocol.close()


def test_node(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    shared_hub.create_device(device_id)
    seen = node("configurations.js", shared_hub.connection_string, device_id)
    assert seen["twice"] == "DeviceAlreadyExistsError"
    assert seen["known"]["systemMetrics"]["results"]["targetedCount"] == 1
    assert (seen["updated"]["labels"], seen["updated"]["etag"]) == ({"team": "ops"}, "Mg==")
    assert (seen["known"]["metrics"]["results"], seen["vision"]) == ({"mine": 1}, 1)
    assert "node-tune" in seen["listed"]
