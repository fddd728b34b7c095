"""SIGKILL in the middle of uploads: what was answered 201 is there, whole; what was not leaves nothing."""

import http.client
import os
import ssl
import threading
import time
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from faults.served import KEY, Served
from hubkeep.wire import sas

DEVICE = "load-files"
SIZE = 300_000


class Uploader(threading.Thread):
    """One device that uploads file after file, each in two blocks, until the hub is gone."""

    def __init__(self, hub: Served) -> None:
        super().__init__(daemon=True)
        self._hub = hub
        self.acknowledged: dict[str, str] = {}  # blob name to the digest of its content
        self.begun: set[str] = set()

    def run(self) -> None:
        try:
            for number in range(100_000):
                self._upload(f"{time.monotonic_ns()}-{number}.bin")
        except (OSError, http.client.HTTPException):
            pass

    def _upload(self, name: str) -> None:
        import json

        token = sas.make(f"{self._hub.address}/devices/{DEVICE}", KEY, int(time.time()) + 3600)
        info = json.loads(self._ask("POST", f"/devices/{DEVICE}/files", json.dumps({"blobName": name}).encode(), token))
        where = f"/{info['containerName']}/{quote(info['blobName'])}{info['sasToken']}"
        self.begun.add(info["blobName"])
        blocks = [os.urandom(SIZE), os.urandom(SIZE)]
        for block, content in zip(("MQ==", "Mg=="), blocks, strict=True):
            self._ask("PUT", f"{where}&comp=block&blockid={quote(block)}", content)
        xml = b"<BlockList><Latest>MQ==</Latest><Latest>Mg==</Latest></BlockList>"
        self._ask("PUT", f"{where}&comp=blocklist", xml)
        self.acknowledged[info["blobName"]] = sha256(b"".join(blocks)).hexdigest()
        told = {"correlationId": info["correlationId"], "isSuccess": True, "statusCode": 200}
        self._ask("POST", f"/devices/{DEVICE}/files/notifications", json.dumps(told).encode(), token)

    def _ask(self, method: str, path: str, body: bytes, token: str = "") -> bytes:
        context = ssl.create_default_context(cafile=str(self._hub.data / "trust-bundle.pem"))
        connection = http.client.HTTPSConnection(self._hub.address, 443, context=context, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": token} if token else {})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status < 300, content
            return content
        finally:
            connection.close()


@pytest.mark.timeout(200)
def test_a_kill_in_the_middle_of_uploads_loses_no_file_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    begun: set[str] = set()
    with Served(tmp_path / "data") as hub:
        hub.start()
        hub.register([DEVICE])
        for seconds in (0.7, 1.1, 0.4):
            uploaders = [Uploader(hub) for _ in range(3)]
            for each in uploaders:
                each.start()
            time.sleep(seconds)
            hub.kill()
            for each in uploaders:
                each.join(30)
                acknowledged |= each.acknowledged
                begun |= each.begun
            hub.start()
        folder = hub.data / "files"
        found = {str(each.relative_to(folder)): each.read_bytes() for each in (folder / DEVICE).iterdir()}
        assert acknowledged
        assert {name: sha256(found[name]).hexdigest() for name in acknowledged} == acknowledged
        # one that was not acknowledged is whole or not there
        assert {len(content) for content in found.values()} == {2 * SIZE}
        assert found.keys() <= begun
        incoming = folder / ".staging" / "incoming"
        assert not incoming.exists() or not list(incoming.iterdir())
