"""Scheduled jobs by azure-iot-hub (Python) and azure-iothub (Node)."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse

from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
models = pytest.importorskip("azure.iot.hub.models")


@pytest.fixture
def device(shared_hub: HubInThread, device_id: str) -> Iterator[Any]:
    """A device that echoes."""
    client = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))

    def answer(request: Any) -> None:
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, request.payload))

    client.connect()
    client.on_method_request_received = answer
    client.get_twin()  # what was subscribed is there
    yield client
    client.shutdown()


@pytest.mark.usefixtures("device")
def test_python(shared_hub: HubInThread, device_id: str) -> None:
    jobs = hub_client.IoTHubJobManager.from_connection_string(shared_hub.connection_string)
    registry = hub_client.IoTHubRegistryManager.from_connection_string(shared_hub.connection_string)

    def job(name: str, kind: str, **parts: Any) -> Any:
        asked = models.JobRequest(
            job_id=name,
            type=kind,
            query_condition=f"deviceId = '{device_id}'",
            max_execution_time_in_seconds=60,
            start_time=parts.pop("start", dt.datetime.now(dt.UTC)),
            **parts,
        )
        return jobs.create_scheduled_job(name, asked)

    def ended(name: str) -> Any:
        assert eventually(lambda: jobs.get_scheduled_job(name).status not in {"queued", "running"})
        return jobs.get_scheduled_job(name)

    call = models.CloudToDeviceMethod(method_name="echo", payload={"n": 1}, response_timeout_in_seconds=30)
    assert job("py-method", "scheduleDeviceMethod", cloud_to_device_method=call).status == "queued"
    done = ended("py-method")
    assert (done.status, done.device_job_statistics.succeeded_count) == ("completed", 1)
    assert done.cloud_to_device_method.method_name == "echo"
    twin = models.Twin(etag="*", tags={"wave": 3}, properties=models.TwinProperties(desired={"rpm": 800}))
    job("py-twin", "scheduleUpdateTwin", update_twin=twin)
    done = ended("py-twin")
    assert (done.status, done.device_job_statistics.device_count, done.failure_reason) == ("completed", 1, None)
    assert registry.get_twin(device_id).tags == {"wave": 3}
    job("py-later", "scheduleUpdateTwin", update_twin=twin, start=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    assert jobs.cancel_scheduled_job("py-later").status == "cancelled"
    query = models.QuerySpecification(query="SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'py-method'")
    (row,) = registry.query_iot_hub(query).items
    assert row.additional_properties["outcome"] == {"deviceMethodResponse": {"status": 200, "payload": {"n": 1}}}
    jobs.protocol.close()
    registry.protocol.close()


@pytest.mark.spec("S-78")
@pytest.mark.usefixtures("device")
def test_node(shared_hub: HubInThread, device_id: str, node: Any) -> None:
    seen = node("jobs.js", shared_hub.connection_string, device_id)
    for name in ("twin", "method"):
        statistics = seen[name]["deviceJobStatistics"]
        assert (seen[name]["status"], statistics["succeededCount"], statistics["deviceCount"]) == ("completed", 1, 1)
    assert seen["queued"] == [[f"{device_id}-later-2", f"{device_id}-later-1"], [f"{device_id}-later-0"]]
    assert (seen["cancelled"], seen["twice"]) == ("cancelled", "DeviceAlreadyExistsError")
