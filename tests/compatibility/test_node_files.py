"""azure-iot-device, azure-iothub and @azure/storage-blob (Node): file upload and its notifications."""

from typing import Any

import pytest

from hubkeep.testing import HubInThread


@pytest.mark.spec("D-ND15", "D-N17")
@pytest.mark.parametrize("transport", ["mqtt", "amqp", "http"])
def test_a_device_uploads_and_a_back_end_is_told(device_id: str, node: Any, transport: str) -> None:
    content = bytes(index % 251 for index in range(150_000))
    with HubInThread() as hub, hub.trusted():
        result = node(
            "files.js",
            transport,
            hub.create_device(device_id),
            hub.policy_connection_string("service"),
            "logs/a",
            str(len(content)),
        )
        assert result["status"] == 201
        kept = hub.data / "files" / device_id / "logs"
        assert sorted(each.name for each in kept.iterdir()) == ["a sdk.bin", "a.bin"]
        assert all(each.read_bytes() == content for each in kept.iterdir())
        one, two = result["notices"]
        assert {each["blobName"] for each in (one, two)} == {f"{device_id}/logs/a sdk.bin", f"{device_id}/logs/a.bin"}
        for each in (one, two):
            assert each["deviceId"] == device_id
            assert each["blobSizeInBytes"] == len(content)
            assert each["blobUri"] == f"https://{hub.host_name}/uploads/" + each["blobName"].replace(" ", "%20")
            assert each["lastUpdatedTime"].endswith("+00:00")
            assert each["enqueuedTimeUtc"].endswith("Z")
