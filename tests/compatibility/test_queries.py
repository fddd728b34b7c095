"""Fleet queries by azure-iot-hub (Python) and azure-iothub (Node)."""

from typing import Any

import pytest

from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
models = pytest.importorskip("azure.iot.hub.models")


@pytest.fixture(scope="module")
def fleet(shared_hub: HubInThread) -> HubInThread:
    registry = hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)
    for number in range(5):
        shared_hub.create_device(f"press-{number}")
        registry.update_twin(f"press-{number}", models.Twin(tags={"hall": number % 2, "fleet": "presses"}), "*")
    return shared_hub


@pytest.mark.spec("S-66")
def test_python(fleet: HubInThread) -> None:
    registry = hub_client.IoTHubRegistryManager.from_connection_string(fleet.connection_string)

    def pages(text: str) -> list[Any]:
        specification, found, continuation = models.QuerySpecification(query=text), [], None
        while True:
            result = registry.query_iot_hub(specification, continuation, 2)
            found.append(result.items)
            continuation = result.continuation_token
            if not continuation:
                return found

    twins = pages("SELECT * FROM devices WHERE tags.fleet = 'presses'")
    assert [[twin.device_id for twin in page] for page in twins] == [
        ["press-0", "press-1"],
        ["press-2", "press-3"],
        ["press-4"],
    ]
    assert twins[0][1].tags == {"hall": 1, "fleet": "presses"}
    ((total,),) = pages("SELECT COUNT() AS n FROM devices WHERE tags.fleet = 'presses' AND tags.hall = 0")
    assert total.additional_properties == {"n": 3}


@pytest.mark.spec("S-59")
def test_node(fleet: HubInThread, node: Any) -> None:
    query = "SELECT deviceId FROM devices WHERE tags.fleet = 'presses' AND STARTSWITH(devices.deviceId, 'press')"
    pages = node("query.js", fleet.connection_string, query, "2")
    assert [[row["deviceId"] for row in page] for page in pages] == [
        ["press-0", "press-1"],
        ["press-2", "press-3"],
        ["press-4"],
    ]
