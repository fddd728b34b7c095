"""Stores of files: a folder, Azure Blob Storage and S3 keep the same promises (ports.BlobStore)."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.storage.blob import BlobServiceClient

from azurite import ACCOUNT, KEY, azurite_process
from conversations.file_uploads import begin, get_file, notices, notify, put_block, put_list, url
from conversations.file_uploads import put_blob as put_over_https
from hubkeep.errors import BadRequest, BlobExists, BlobNotFound, StoreUnavailable
from hubkeep.limits import MIB, Limits
from hubkeep.ports import BlobStore
from hubkeep.settings import Files
from hubkeep.store.blobs import LocalBlobs, open_blobs
from hubkeep.testing import HubInThread


@pytest.fixture(scope="module")
def azurite() -> Iterator[dict[str, Any]]:
    """A container of its own in an Azure Blob Storage of this machine; settings of a hub that keeps its files there."""
    with azurite_process() as process:
        options = {"account_name": ACCOUNT, "account_key": KEY, "endpoint": process.endpoint}
        yield {"store": "azure", "bucket": process.new_container(), "prefix": "hub/one", "options": options}


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """A bucket of its own in an S3 of this machine; settings of a hub that keeps its files there."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = next(filter(None, (re.search(r"Running on (http://\S+)", each) for each in process.stderr)))
            bucket = f"b{uuid.uuid4().hex}"
            with urllib.request.urlopen(urllib.request.Request(f"{found[1]}/{bucket}", method="PUT"), timeout=30):
                pass
            # what it says of each request is read, so that it never waits for a reader
            threading.Thread(target=process.stderr.read, daemon=True).start()
            options = {"access_key_id": "a", "secret_access_key": "b", "region": "us-east-1", "endpoint": found[1]}
            yield {"store": "s3", "bucket": bucket, "prefix": "hub/one", "options": options}
        finally:
            process.terminate()


@pytest.fixture(params=["local", "azure", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    fixture = {"azure": "azurite", "s3": "s3"}.get(request.param)
    files = {"store": "local"} if fixture is None else request.getfixturevalue(fixture)
    limits = Limits()
    store = open_blobs(Files(**files), tmp_path, limits)
    yield store
    await store.close()


async def pieces(*contents: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for each in contents:
        yield each
        await asyncio.sleep(0)
    if error is not None:
        raise error


async def whole(blobs: BlobStore, key: str, start: int = 0, end: int = 1 << 40) -> bytes:
    stat = await blobs.stat(key)
    return b"".join([each async for each in blobs.read(key, start, min(end, stat.size if stat else 1))])


async def keys(blobs: BlobStore, prefix: str) -> set[str]:
    return {key async for key, _ in blobs.list(prefix)}


async def test_what_was_put_is_there_whole(blobs: BlobStore) -> None:
    for number, content in enumerate(([], [b""], [b"x"], [b"12", b"", b"345"], [os.urandom(MIB)] * 13)):
        key = f"whole/{number}"
        stat = await blobs.put(key, pieces(*content))
        assert stat == await blobs.stat(key)
        assert stat.size == len(b"".join(content))
        assert await whole(blobs, key) == b"".join(content)
    assert await whole(blobs, "whole/3", 1, 4) == b"234"
    assert await keys(blobs, "whole") == {f"whole/{each}" for each in range(5)}


async def test_what_is_put_again_is_another_version(blobs: BlobStore) -> None:
    first = await blobs.put("again/a", pieces(b"one"))
    second = await blobs.put("again/a", pieces(b"two"))
    assert first.etag != second.etag
    assert await whole(blobs, "again/a") == b"two"


@pytest.mark.parametrize("size", [10, 13 * MIB])
async def test_what_breaks_off_leaves_what_was_there(blobs: BlobStore, size: int) -> None:
    await blobs.put("broken/a", pieces(b"before"))
    for error in (BadRequest("the sender's fault"), ConnectionResetError("gone")):
        with pytest.raises(type(error)):
            await blobs.put("broken/a", pieces(bytes(size), error=error))
        with pytest.raises(type(error)):
            await blobs.put("broken/new", pieces(bytes(size), error=error))
    assert await whole(blobs, "broken/a") == b"before"
    assert await keys(blobs, "broken") == {"broken/a"}
    assert await keys(blobs, ".staging") == set()


async def test_names_are_taken_as_they_are(blobs: BlobStore) -> None:
    names = {"n/a b", "n/%2E%2E", "n/%41", "n/A", "n/a+b&c=d;e,f", "n/ü€", "n/x/y/z", "n/(1)!'@$"}
    for each in names:
        await blobs.put(each, pieces(each.encode()))
    assert await keys(blobs, "n") == names
    assert {await whole(blobs, each) for each in names} == {each.encode() for each in names}


async def test_what_is_not_there(blobs: BlobStore) -> None:
    assert await blobs.stat("none/a") is None
    assert await keys(blobs, "none") == set()
    with pytest.raises(BlobNotFound):
        await whole(blobs, "none/a")
    for each in ("gone/a", "gone/b"):
        await blobs.put(each, pieces(b"x"))
    await blobs.delete(["gone/a", "gone/never", "gone/b"])
    assert await keys(blobs, "gone") == set()


async def test_a_prefix_is_a_whole_path(blobs: BlobStore) -> None:
    for each in ("p/a", "pq/a"):
        await blobs.put(each, pieces(b"x"))
    assert await keys(blobs, "p") == {"p/a"}


async def test_many_are_put_and_deleted_side_by_side(blobs: BlobStore) -> None:
    times = 5 if isinstance(blobs, LocalBlobs) else 1  # a folder is what others tidy away

    async def come_and_go(number: int) -> None:
        for _ in range(times):
            await blobs.put(f"busy/{number % 3}/{number}", pieces(b"x"))
            await blobs.delete([f"busy/{number % 3}/{number}"])

    await asyncio.gather(*map(come_and_go, range(20)))
    assert await keys(blobs, "busy") == set()


async def test_a_folder_and_a_file_of_one_name(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "files", Limits())
    await blobs.put("a/b", pieces(b"x"))
    for key in ("a", "a/b/c"):
        with pytest.raises(BlobExists):
            await blobs.put(key, pieces(b"x"))
    assert await whole(blobs, "a/b") == b"x"
    await blobs.close()


async def test_a_store_that_does_not_answer_tells_no_secret() -> None:
    options = {"account_name": ACCOUNT, "account_key": KEY, "endpoint": f"http://127.0.0.1:1/{ACCOUNT}"}
    blobs = open_blobs(Files(store="azure", bucket="none", options=options), Path(), Limits())
    with pytest.raises(StoreUnavailable) as refused:
        await asyncio.wait_for(blobs.stat("a"), 60)
    assert KEY not in refused.value.reason
    assert KEY not in repr(Files(store="azure", bucket="none", options=options))


def test_a_hub_keeps_its_files_in_azure(azurite: dict[str, Any], device_id: str) -> None:
    with HubInThread(files=azurite) as hub, hub.trusted():
        info = begin(hub, device_id, "a é.bin")
        assert put_over_https(hub, url(info), b"whole", x_ms_blob_content_type="text/plain").status == 201
        assert get_file(hub, info).body == b"whole"
        for number in range(3):
            assert put_block(hub, info, number, bytes([number]) * 100_000).status == 201
        assert put_list(hub, info, [2, 0]).status == 201
        assert get_file(hub, info).body == b"\x02" * 100_000 + b"\0" * 100_000
        assert notify(hub, device_id, info["correlationId"]).status == 204
        assert notices(hub, device_id)[0]["blobSizeInBytes"] == 200_000
        device = IoTHubDeviceClient.create_from_connection_string(hub.create_device(device_id))
        told = device.get_storage_info_for_blob("b")
        device.shutdown()
        assert put_over_https(hub, url(told), b"x", If_None_Match="*").status == 201
        assert put_over_https(hub, url(told), b"y", If_None_Match="*").status == 409
        endpoint, credential = azurite["options"]["endpoint"], {"account_name": ACCOUNT, "account_key": KEY}
        with BlobServiceClient(endpoint, credential=credential) as service:
            found = {each.name for each in service.get_container_client(azurite["bucket"]).list_blobs("hub/one/test")}
        assert found == {f"hub/one/{device_id}/a é.bin", f"hub/one/{device_id}/b"}
