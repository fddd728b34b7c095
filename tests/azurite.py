"""Azurite, which stands for Azure Blob Storage: one process for the tests of a module."""

import contextlib
import datetime as dt
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

PROGRAM = Path(__file__).parent / "compatibility" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"
# Azurite's own, published key
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azurite(NamedTuple):
    """endpoint: of the account, ``http://127.0.0.1:PORT/devstoreaccount1``."""

    endpoint: str

    def client(self) -> BlobServiceClient:
        return BlobServiceClient(self.endpoint, credential={"account_name": ACCOUNT, "account_key": KEY})

    def new_container(self) -> str:
        name = f"c{uuid.uuid4().hex}"
        with self.client() as service:
            service.create_container(name)
        return name

    def signed(self, container: str, permissions: str = "rwdl") -> str:
        """The URL of a container with a signature that is good for an hour."""
        signature = generate_container_sas(
            ACCOUNT,
            container,
            account_key=KEY,
            permission=ContainerSasPermissions.from_string(permissions),
            expiry=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1),
        )
        return f"{self.endpoint}/{container}?{signature}"

    def put(self, container: str, blob: str, content: bytes) -> None:
        with self.client() as service:
            service.get_blob_client(container, blob).upload_blob(content, overwrite=True)

    def get(self, container: str, blob: str) -> bytes:
        with self.client() as service:
            return bytes(service.get_blob_client(container, blob).download_blob().readall())


@contextlib.contextmanager
def azurite_process() -> Iterator[Azurite]:
    """Skips the test where Azurite is not installed."""
    if shutil.which("node") is None or not PROGRAM.exists():
        pytest.skip("Azurite is not installed: python tests/setup.py")
    command = [PROGRAM, "--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            found = next(filter(None, (re.search(r"listens on (http://\S+)", each) for each in process.stdout)))
            yield Azurite(f"{found[1]}/{ACCOUNT}")
        finally:
            process.terminate()
