"""What a device does to upload a file, request by request."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from conversations.https_peer import VERSION, Answer, request
from hubkeep.testing import HubInThread


def device_token(hub: HubInThread, device_id: str) -> str:
    key = b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    return hub.token(f"devices/{device_id}", key=key)


def ask(hub: HubInThread, device_id: str, name: Any = "a.bin", path: str = "") -> Answer:
    where = path or f"/devices/{device_id}/files?{VERSION}"
    return request(hub, "POST", where, {"blobName": name}, token=device_token(hub, device_id))


def begin(hub: HubInThread, device_id: str, name: str = "a.bin") -> dict[str, str]:
    answer = ask(hub, device_id, name)
    assert answer.status == 200, answer
    told: dict[str, str] = answer.body
    return told


def url(info: dict[str, str], more: str = "", *, encoded: bool = False) -> str:
    """encoded: as .NET and Java write it, slashes of the name included."""
    name = quote(info["blobName"], safe="" if encoded else "/")
    return f"/{info['containerName']}/{name}{info['sasToken']}{more}"


def put_blob(hub: HubInThread, where: str, body: Any = b"content", **headers: str) -> Answer:
    """headers: with underscores for hyphens."""
    given = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2020-10-02"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return request(hub, "PUT", where, body, token="", headers=given)


def block(number: int) -> str:
    """As the C client numbers them: six characters, padded with spaces."""
    return b64encode(f"{number:6d}".encode()).decode()


def put_block(hub: HubInThread, info: dict[str, str], number: int, body: bytes, **headers: str) -> Answer:
    where = url(info, f"&comp=block&blockid={quote(block(number), safe='')}")
    return put_blob(hub, where, body, **headers)


def put_list(hub: HubInThread, info: dict[str, str], numbers: Iterable[int], kind: str = "Latest") -> Answer:
    named = "".join(f"<{kind}>{block(each)}</{kind}>" for each in numbers)
    xml = f'<?xml version="1.0" encoding="utf-8"?>\n<BlockList>{named}</BlockList>'
    return put_blob(hub, url(info, "&comp=blocklist"), xml.encode())


def notify(hub: HubInThread, device_id: str, upload_id: str, *, success: bool = True, in_path: bool = False) -> Answer:
    told: dict[str, Any] = {"isSuccess": success, "statusCode": 201 if success else -1, "statusDescription": None}
    where = f"/devices/{device_id}/files/notifications"
    if in_path:
        where += f"/{quote(upload_id, safe='')}"
    else:
        told["correlationId"] = upload_id
    return request(hub, "POST", f"{where}?{VERSION}", told, token=device_token(hub, device_id))


def get_file(hub: HubInThread, info: dict[str, str], policy: str = "service") -> Answer:
    """As a back end reads what it was told of."""
    return request(hub, "GET", f"/{info['containerName']}/{quote(info['blobName'])}", policy=policy)


def notices(hub: HubInThread, device_id: str) -> list[dict[str, Any]]:
    """Takes what waits for back ends; what is told of this device."""
    import json

    found = []
    while (answer := request(hub, "GET", f"/messages/servicebound/filenotifications?{VERSION}")).status == 200:
        token = answer.headers["etag"].strip('"')
        settled = request(hub, "DELETE", f"/messages/servicebound/filenotifications/{token}?{VERSION}")
        assert settled.status == 204
        found.append(json.loads(answer.body))
    return [each for each in found if each["deviceId"] == device_id]


def error_code(answer: Answer) -> str:
    """Of a refusal in the manner of a storage account."""
    code = answer.headers["x-ms-error-code"]
    assert f"<Code>{code}</Code>".encode() in answer.body or not answer.body
    return code
