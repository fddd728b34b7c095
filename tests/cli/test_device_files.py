"""``hubkeep device files``, of what a sample uploads under ``hubkeep run``."""

import sys
from pathlib import Path

from cli.processes import hub_process

UPLOAD = """
import os
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobClient
client = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
for name in ("logs/today.txt", "a.bin"):
    info = client.get_storage_info_for_blob(name)
    url = f"https://{info['hostName']}/{info['containerName']}/{info['blobName']}{info['sasToken']}"
    with BlobClient.from_blob_url(url) as blob:
        blob.upload_blob(b"what was written", overwrite=True)
    client.notify_blob_upload_status(info["correlationId"], True, 200, "OK")
client.shutdown()
"""


def test_files_of_a_device_are_listed_and_fetched(tmp_path: Path) -> None:
    with hub_process(tmp_path / "hub") as hub:
        assert "nothing" in hub.ok("device", "files", "first-device")
        hub.ok("run", "--", sys.executable, "-c", UPLOAD)
        listed = hub.ok("device", "files", "first-device")
        assert "logs/today.txt" in listed
        assert "first-device/" not in listed
        found = hub.run("device", "files", "first-device", "--json").json
        assert [(each["name"], each["size"]) for each in found] == [
            ("first-device/a.bin", 16),
            ("first-device/logs/today.txt", 16),
        ]
        target = tmp_path / "fetched.txt"
        fetch = ("device", "files", "first-device", "--fetch", "logs/today.txt", "--output", str(target))
        assert hub.run(*fetch, "--json").json == {"file": str(target), "size": 16}
        assert target.read_bytes() == b"what was written"
        again = hub.run(*fetch)
        assert (again.status, "is there already" in again.err) == (1, True)
        absent = hub.run("device", "files", "first-device", "--fetch", "no.txt")
        assert (absent.status, "has uploaded no no.txt" in absent.err) == (1, True)
        assert sorted(each.name for each in tmp_path.iterdir()) == ["fetched.txt", "hub"]
        hub.stop()
