"""Import and export jobs by azure-iot-hub (Python) and azure-iothub (Node), through Azurite."""

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from azurite import Azurite, azurite_process
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
models = pytest.importorskip("azure.iot.hub.models")

KEYS = {"primaryKey": b64encode(b"p" * 32).decode(), "secondaryKey": b64encode(b"s" * 32).decode()}


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_process() as azurite:
        yield azurite


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread(egress={"allow": ["127.0.0.1"]}) as hub, hub.trusted():
        yield hub


def text(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


@pytest.mark.spec("S-81")
def test_python(hub: HubInThread, azurite: Azurite) -> None:
    container = azurite.new_container()
    url = azurite.signed(container)
    fleet = [
        {"id": "py-1", "authentication": {"type": "sas", "symmetricKey": KEYS}, "tags": {"hall": 3}},
        {"id": "py-1", "moduleId": "vision", "managedBy": "me"},
        {"id": "py-1", "importMode": "create"},
    ]
    azurite.put(container, "fleet.txt", text(*fleet))
    jobs = hub_client.IoTHubJobManager.from_connection_string(hub.connection_string)

    def run(wanted: Any) -> Any:
        made = jobs.create_import_export_job(wanted)
        assert eventually(lambda: jobs.get_import_export_job(made.job_id).status in ("completed", "failed"), 30)
        return jobs.get_import_export_job(made.job_id)

    wanted = models.JobProperties(
        type="import", input_blob_container_uri=url, input_blob_name="fleet.txt", output_blob_container_uri=url
    )
    imported = run(wanted)
    assert (imported.status, imported.progress, imported.failure_reason) == ("completed", 100, None)
    assert [each["errorCode"] for each in lines(azurite.get(container, "importErrors.log"))] == ["DeviceAlreadyExists"]

    exported = run(models.JobProperties(type="export", output_blob_container_uri=url, output_blob_name="out.txt"))
    assert exported.status == "completed"
    found = {(each["id"], each.get("moduleId")): each for each in lines(azurite.get(container, "out.txt"))}
    assert found["py-1", None]["authentication"]["symmetricKey"] == KEYS
    assert (found["py-1", None]["tags"], found["py-1", "vision"]["managedBy"]) == ({"hall": 3}, "me")

    run(models.JobProperties(type="export", output_blob_container_uri=url, exclude_keys_in_export=True))
    for each in lines(azurite.get(container, "devices.txt")):
        assert each["authentication"]["symmetricKey"] == {"primaryKey": None, "secondaryKey": None}

    jobs.cancel_import_export_job(exported.job_id)  # it has ended: nothing changes
    assert jobs.get_import_export_job(exported.job_id).status == "completed"
    assert [each.type for each in jobs.get_import_export_jobs()][-3:] == ["export", "export", "import"]
    read_only = models.JobProperties(type="export", output_blob_container_uri=azurite.signed(container, "r"))
    refused = run(read_only)
    assert refused.status == "failed"
    assert "403 AuthorizationPermissionMismatch" in refused.failure_reason
    jobs.protocol.close()


def test_a_large_fleet_in_blocks(hub: HubInThread, azurite: Azurite) -> None:
    container = azurite.new_container()
    url = azurite.signed(container)
    tags = {"filler": ["x" * 4000, "y" * 3000]}
    azurite.put(container, "devices.txt", text(*({"id": f"large-{each:04}", "tags": tags} for each in range(700))))
    jobs = hub_client.IoTHubJobManager.from_connection_string(hub.connection_string)
    for kind in ("import", "export"):
        wanted = models.JobProperties(
            type=kind, input_blob_container_uri=url, output_blob_container_uri=url, output_blob_name="out.txt"
        )
        made = jobs.create_import_export_job(wanted)
        assert eventually(lambda made=made: jobs.get_import_export_job(made.job_id).status == "completed", 60)
    found = [each for each in lines(azurite.get(container, "out.txt")) if each["id"].startswith("large")]
    assert [each["tags"] for each in found] == [tags] * 700
    jobs.protocol.close()


def test_node(hub: HubInThread, azurite: Azurite, node: Any) -> None:
    container = azurite.new_container()
    azurite.put(container, "devices.txt", text({"id": "node-1"}, {"id": "bad id"}))
    seen = node("transfers.js", hub.connection_string, azurite.signed(container))
    assert (seen["imported"]["status"], seen["imported"]["type"]) == ("completed", "import")
    assert (seen["exported"]["status"], seen["exported"]["excludeKeysInExport"]) == ("completed", True)
    assert seen["listed"][:2] == [seen["exported"]["jobId"], seen["imported"]["jobId"]]
    assert len(lines(azurite.get(container, "importErrors.log"))) == 1
    exported = {each["id"]: each for each in lines(azurite.get(container, "devices.txt"))}
    assert exported["node-1"]["authentication"]["symmetricKey"]["primaryKey"] is None
