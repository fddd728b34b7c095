"""azure-iot-device and azure-storage-blob (Python): file upload as the SDK's samples do it."""

import os
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobBlock, BlobClient

from hubkeep.testing import HubInThread


def blob_client(info: dict[str, Any], **options: Any) -> BlobClient:
    """As the sample upload_to_blob.py makes it."""
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    return BlobClient.from_blob_url(url, **options)


@pytest.mark.spec("D-PY13")
@pytest.mark.parametrize("size", [0, 5, 300_000], ids=["empty", "small", "blocks"])
def test_a_device_uploads_a_file(shared_hub: HubInThread, device_id: str, size: int) -> None:
    content = os.urandom(size)
    device = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))
    device.connect()
    info = device.get_storage_info_for_blob("logs/a file.bin")
    assert info["blobName"] == f"{device_id}/logs/a file.bin"
    with blob_client(info, max_single_put_size=65_536, max_block_size=65_536) as blob:
        result = blob.upload_blob(content)
        assert result["etag"]
        assert blob.get_blob_properties().size == size
        assert blob.download_blob().readall() == content
    device.notify_blob_upload_status(info["correlationId"], True, 200, f"OK: {info['blobName']}")
    device.shutdown()
    assert (shared_hub.data / "files" / device_id / "logs" / "a file.bin").read_bytes() == content


def test_a_file_is_replaced_only_where_that_was_asked_for(shared_hub: HubInThread, device_id: str) -> None:
    device = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))
    info = device.get_storage_info_for_blob("a")
    with blob_client(info) as blob:
        etag = blob.upload_blob(b"one")["etag"]
        with pytest.raises(ResourceExistsError):
            blob.upload_blob(b"two")
        assert blob.upload_blob(b"three", overwrite=True)["etag"] != etag
        assert blob.download_blob().readall() == b"three"
    device.shutdown()


def test_blocks_are_put_together_in_the_order_of_the_list(shared_hub: HubInThread, device_id: str) -> None:
    device = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))
    info = device.get_storage_info_for_blob("b")
    with blob_client(info) as blob:
        for name in ("1", "2", "3"):
            blob.stage_block(name, name.encode() * 1000, validate_content=True)
        with pytest.raises(HttpResponseError, match="InvalidBlockList"):
            blob.commit_block_list([BlobBlock("1"), BlobBlock("9")])
        blob.commit_block_list([BlobBlock("3"), BlobBlock("1")])
        assert blob.download_blob().readall() == b"3" * 1000 + b"1" * 1000
    device.shutdown()
    assert not list((shared_hub.data / "files" / ".staging").rglob("*.*"))


def test_a_notified_upload_is_over(shared_hub: HubInThread, device_id: str) -> None:
    device = IoTHubDeviceClient.create_from_connection_string(shared_hub.create_device(device_id))
    info = device.get_storage_info_for_blob("c")
    device.notify_blob_upload_status(info["correlationId"], False, 500, "it failed")
    device.notify_blob_upload_status(info["correlationId"], False, 500, "it failed")
    with blob_client(info) as blob, pytest.raises(ClientAuthenticationError):
        blob.upload_blob(b"late")
    device.shutdown()
