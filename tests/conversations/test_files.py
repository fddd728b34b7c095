"""File upload request by request: what each client sends, what is refused, what is left behind."""

import json
import resource
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from conversations.file_uploads import (
    ask,
    begin,
    device_token,
    error_code,
    get_file,
    notices,
    notify,
    put_blob,
    put_block,
    put_list,
    url,
)
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import eventually, tls_socket
from hubkeep.testing import HubInThread

MIB = 1024 * 1024


def files_in(hub: HubInThread) -> list[str]:
    folder = hub.data / "files"
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


def staged(hub: HubInThread) -> list[Path]:
    return [each for each in (hub.data / "files" / ".staging").rglob("*") if each.is_file()]


# -- what clients send -----------------------------------------------------------------------------------------------


@pytest.mark.spec("D-106", "D-C18")
@pytest.mark.parametrize("client", ["python", "node", "c", "net", "java"])
def test_the_three_steps_as_each_client_takes_them(shared_hub: HubInThread, device_id: str, client: str) -> None:
    """Python and Node also run for real: tests/compatibility."""
    hub, name, content = shared_hub, "logs/day 1/é+a.bin", b"0123456789" * 1000
    trailing = "/" if client == "c" else ""
    answer = ask(hub, device_id, name, f"/devices/{device_id}/files{trailing}?api-version=2016-11-14")
    info = answer.body
    assert answer.status == 200
    assert info["blobName"] == f"{device_id}/{name}"
    assert info["hostName"] == hub.host_name
    assert info["sasToken"].startswith("?")
    assert {"correlationId", "containerName"} <= info.keys()
    if client in {"node", "c"}:
        assert put_block(hub, info, 0, content[:6000], x_ms_encryption_algorithm="AES256").status == 201
        assert put_block(hub, info, 1, content[6000:]).status == 201
        done = put_list(hub, info, [0, 1])
    else:
        done = put_blob(hub, url(info, encoded=client in {"net", "java"}), content)
    assert done.status == 201
    assert {"etag", "last-modified", "x-ms-request-id", "x-ms-version"} <= done.headers.keys()
    told: dict[str, Any] = {"isSuccess": True, "statusCode": 0, "statusDescription": ""}
    where = f"/devices/{device_id}/files/notifications{trailing}"
    if client == "node":
        del told["statusDescription"]
        where += "/" + quote(info["correlationId"], safe="")
    else:
        told["correlationId"] = info["correlationId"]
    if client == "net":
        told = {each[:1].upper() + each[1:]: value for each, value in told.items()}
    told_answer = request(hub, "POST", f"{where}?api-version=2020-09-30", told, token=device_token(hub, device_id))
    assert (told_answer.status, told_answer.body) == (204, b"")
    assert get_file(hub, info).body == content
    (notice,) = notices(hub, device_id)
    assert (notice["blobName"], notice["blobSizeInBytes"]) == (info["blobName"], len(content))
    assert notice["blobUri"] == f"https://{hub.host_name}/uploads/{quote(info['blobName'])}"


def test_an_upload_is_told_under_the_name_that_was_dialled() -> None:
    with HubInThread(host_names=("hub.hubkeep.test",), listeners={"https_port": 0}) as hub:
        token, port = device_token(hub, "d"), hub.hub.ports["https"]
        for host, told in (
            ("hub.hubkeep.test:8443", "hub.hubkeep.test:8443"),
            ("localhost", "localhost"),
            ("evil.example", f"hub.hubkeep.test:{port}"),
            ("localhost:x", f"hub.hubkeep.test:{port}"),
        ):
            headers = {"Host": host}
            with tls_socket(hub, port) as sock:
                body = b'{"blobName":"a"}'
                head = f"POST /devices/d/files HTTP/1.1\r\nHost: {headers['Host']}\r\nAuthorization: {token}\r\n"
                sock.sendall(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["hostName"] == told


def test_a_block_list_sent_again_is_answered_the_same(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    for number in (1, 2, 3):
        assert put_block(shared_hub, info, number, bytes([number]) * 10).status == 201
    first, again = put_list(shared_hub, info, [3, 1]), put_list(shared_hub, info, [3, 1])
    assert (first.status, again.status) == (201, 201)
    assert first.headers["etag"] == again.headers["etag"]
    assert get_file(shared_hub, info).body == b"\x03" * 10 + b"\x01" * 10
    assert put_list(shared_hub, info, [3]).status == 400  # used up
    assert not [each for each in staged(shared_hub) if info["correlationId"] in str(each)]


def test_content_is_checked_by_its_checksum(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    right = b64encode(md5(b"content").digest()).decode()
    assert error_code(put_blob(shared_hub, url(info), b"contents", Content_MD5=right)) == "Md5Mismatch"
    assert get_file(shared_hub, info).status == 404
    assert put_blob(shared_hub, url(info), b"content", Content_MD5=right).status == 201


def test_parts_of_a_file_are_read(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    put_blob(shared_hub, url(info), b"0123456789")
    part = request(shared_hub, "GET", url(info), token="", headers={"x-ms-range": "bytes=2-4"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert request(shared_hub, "GET", url(info), token="", headers={"Range": "bytes=10-"}).status == 416
    head = request(shared_hub, "HEAD", url(info), token="")
    assert (head.status, head.headers["content-length"], head.body) == (200, "10", b"")
    # no browser takes it for a page of the hub
    assert head.headers["content-type"] == "application/octet-stream"
    assert head.headers["content-disposition"] == "attachment"


def test_back_ends_take_notices_over_https(shared_hub: HubInThread, device_id: str) -> None:
    notices(shared_hub, device_id)
    info = begin(shared_hub, device_id)
    put_blob(shared_hub, url(info))
    notify(shared_hub, device_id, info["correlationId"])
    path = "/messages/serviceBound/filenotifications"
    first = request(shared_hub, "GET", f"{path}?{VERSION}")
    token = first.headers["etag"].strip('"')
    assert request(shared_hub, "GET", f"{path}?{VERSION}").status == 204
    assert request(shared_hub, "POST", f"{path}/{token}/abandon?{VERSION}").status == 204
    again = request(shared_hub, "GET", f"{path}?{VERSION}")
    assert again.body == first.body
    assert request(shared_hub, "DELETE", f"{path}/{token}?{VERSION}").status == 412
    token = again.headers["etag"].strip('"')
    shared_hub.clock.move(61)
    assert request(shared_hub, "DELETE", f"{path}/{token}?{VERSION}").code == "DeviceMessageLockLost"
    assert len(notices(shared_hub, device_id)) == 1
    assert request(shared_hub, "GET", f"{path}?{VERSION}", policy="device").status == 401


# -- who may ---------------------------------------------------------------------------------------------------------


def changed(info: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What an attacker could make of a genuine URL."""
    name, query = info["blobName"], info["sasToken"]
    pairs = dict(each.split("=", 1) for each in query[1:].split("&"))
    for key, value in (
        ("sp", "rwd"),
        ("se", "2099-01-01T00%3A00%3A00Z"),
        ("si", "0" * 32),
        ("sv", "2020-02-10"),
        ("sr", "c"),
        ("sig", "A" * len(pairs["sig"])),
        ("sig", ""),
        ("sig", pairs["sig"] + "%00"),
    ):
        yield (
            f"{key}={value}",
            f"/uploads/{name}?" + "&".join(f"{each}={value if each == key else old}" for each, old in pairs.items()),
        )
    yield "another name", f"/uploads/{name}x{query}"
    yield "another device", f"/uploads/victim/{name.partition('/')[2]}{query}"
    yield "encoded twice", f"/uploads/{quote(quote(name, safe=''), safe='')}{query}"
    yield "no query", f"/uploads/{name}"
    yield "a second sig in front", f"/uploads/{name}?sig=x&{query[1:]}"


def test_a_url_opens_its_own_file_alone(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    before = files_in(shared_hub)
    for what, where in changed(info):
        for answer in (put_blob(shared_hub, where), request(shared_hub, "GET", where, token="")):
            assert (answer.status, error_code(answer)) == (403, "AuthenticationFailed"), what
    for method, status in (("DELETE", 403), ("POST", 405), ("PATCH", 405), ("OPTIONS", 405)):
        assert request(shared_hub, method, url(info), token="").status == status
    assert files_in(shared_hub) == before
    assert put_blob(shared_hub, url(info)).status == 201


@pytest.mark.spec("P-T24")
def test_a_device_reaches_no_file_and_no_twin_of_another(shared_hub: HubInThread, device_id: str) -> None:
    mine, theirs = begin(shared_hub, device_id), begin(shared_hub, f"{device_id}-other")
    put_blob(shared_hub, url(theirs), b"theirs")
    crossed = {**theirs, "sasToken": mine["sasToken"]}
    assert put_blob(shared_hub, url(crossed)).status == 403
    assert request(shared_hub, "GET", url(crossed), token="").status == 403
    assert notify(shared_hub, device_id, theirs["correlationId"]).status == 400
    token = device_token(shared_hub, device_id)
    other = f"{device_id}-other"
    for method, path, body in (
        ("GET", f"/uploads/{theirs['blobName']}", None),
        ("GET", f"/api/devices/{other}/files", None),
        ("POST", f"/devices/{other}/files?{VERSION}", {"blobName": "a"}),
        ("GET", f"/twins/{other}?{VERSION}", None),
        ("PATCH", f"/twins/{other}?{VERSION}", {"tags": {"a": 1}}),
    ):
        assert request(shared_hub, method, path, body, token=token).status in {401, 403}, path
    assert get_file(shared_hub, theirs).body == b"theirs"


def test_who_may_read_and_write_without_a_url(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    put_blob(shared_hub, url(info), b"secret")
    plain = f"/uploads/{info['blobName']}"
    statuses = {policy: get_file(shared_hub, info, policy).status for policy in ("service", "device", "registryRead")}
    assert statuses == {"service": 200, "device": 403, "registryRead": 403}
    for token in (device_token(shared_hub, device_id), shared_hub.token(policy="iothubowner")):
        headers = {"Authorization": token, "x-ms-blob-type": "BlockBlob"}
        assert request(shared_hub, "PUT", plain, b"changed", token="", headers=headers).status == 403
    assert request(shared_hub, "DELETE", plain).status == 405
    assert get_file(shared_hub, info).body == b"secret"


def test_a_url_ends_with_its_time_its_upload_and_its_device(device_id: str) -> None:
    with HubInThread() as hub:
        path = f"/devices/{device_id}?{VERSION}"

        def become(status: str) -> None:
            request(hub, "PUT", path, {"deviceId": device_id, "status": status}, headers={"If-Match": "*"})

        for end in (
            lambda _: hub.clock.move(3601),
            lambda info: notify(hub, device_id, info["correlationId"], success=False),
            lambda _: become("disabled"),
            lambda _: request(hub, "DELETE", path),
        ):
            hub.create_device(device_id)
            become("enabled")
            info = begin(hub, device_id)
            assert put_block(hub, info, 1, b"x").status == 201
            end(info)
            for answer in (put_blob(hub, url(info)), put_list(hub, info, [1])):
                assert (answer.status, error_code(answer)) == (403, "AuthenticationFailed")
        hub.create_device(device_id)  # the same id, another device
        assert put_blob(hub, url(info)).status == 403
        assert not [each for each in files_in(hub) if not each.startswith(".staging")]


def test_an_upload_belongs_to_its_device(shared_hub: HubInThread, device_id: str) -> None:
    info, other = begin(shared_hub, device_id), f"{device_id}-other"
    put_blob(shared_hub, url(info))
    shared_hub.create_device(other)
    for upload_id in (info["correlationId"], "0" * 32, "../x", "a/b=", ""):
        for in_path in (True, False):
            answer = notify(shared_hub, other, upload_id, in_path=in_path and bool(upload_id))
            assert answer.status in {400, 404}
    refused = notify(shared_hub, other, info["correlationId"])
    assert (refused.status, refused.code) == (400, "InvalidFileUploadCorrelationId")
    token = device_token(shared_hub, other)
    asked = request(shared_hub, "POST", f"/devices/{device_id}/files?{VERSION}", {"blobName": "a"}, token=token)
    assert asked.status == 401
    assert notify(shared_hub, device_id, info["correlationId"]).status == 204


# -- names are data --------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-R8")
@pytest.mark.parametrize(
    "name",
    ["", "/", "a//b", "..", "a/../b", "./a", "a/", "a\\b", "a\0b", "a\nb", "a" * 1100, "a/" * 300 + "a", 5, None],
)
def test_names_that_are_refused(shared_hub: HubInThread, device_id: str, name: Any) -> None:
    answer = ask(shared_hub, device_id, name)
    assert (answer.status, answer.code) == (400, "ArgumentInvalid")


@pytest.mark.parametrize(
    "name",
    [
        ".staging/incoming/x",
        "...",
        "a#1",
        "%2e%2e%2fx",
        "50%",
        "a?b=c&d",
        "x" * 255,
        "ü" * 200,
        "CON",
        "a:b|c*",
        "~",
        " ",
    ],
)
def test_names_that_mean_nothing_to_the_file_system(shared_hub: HubInThread, device_id: str, name: str) -> None:
    info = begin(shared_hub, device_id, name)
    assert put_blob(shared_hub, url(info), name.encode()).status == 201
    assert get_file(shared_hub, info).body == name.encode()
    below = [each for each in (shared_hub.data / "files" / device_id).rglob("*") if each.is_file()]
    assert name.encode() in [each.read_bytes() for each in below]


@pytest.mark.spec("L-H5")
def test_paths_that_lead_elsewhere(shared_hub: HubInThread, device_id: str) -> None:
    query = begin(shared_hub, device_id)["sasToken"]
    for path in ("../x", "a/../../x", "%2e%2e/x", "a%2f..%2fx", "a%00b", "a//b", "a%5cb", "%ff", "", "a/%2e"):
        answer = put_blob(shared_hub, f"/uploads/{path}{query}")
        assert answer.status == 404, path


def test_a_file_and_a_folder_cannot_have_one_name(shared_hub: HubInThread, device_id: str) -> None:
    one, below = begin(shared_hub, device_id, "a"), begin(shared_hub, device_id, "a/b")
    assert put_blob(shared_hub, url(one)).status == 201
    assert put_blob(shared_hub, url(below)).status == 409
    folder, above = begin(shared_hub, device_id, "c/d"), begin(shared_hub, device_id, "c")
    assert put_blob(shared_hub, url(folder)).status == 201
    assert put_blob(shared_hub, url(above)).status == 409
    assert not (shared_hub.data / "files/.staging/incoming").exists() or not list(
        (shared_hub.data / "files/.staging/incoming").iterdir()
    )


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_so_many_uploads_are_in_progress_and_no_more(device_id: str) -> None:
    with HubInThread() as hub:
        uploads = [begin(hub, device_id) for _ in range(10)]
        refused = ask(hub, device_id)
        assert (refused.status, refused.code) == (403, "DeviceMaximumActiveFileUploadLimitExceeded")
        assert ask(hub, f"{device_id}-other").status == 200
        assert notify(hub, device_id, uploads[0]["correlationId"], success=False).status == 204
        assert ask(hub, device_id).status == 200
        assert ask(hub, device_id).status == 403
        hub.clock.move(3601)
        assert ask(hub, device_id).status == 200
        late = notify(hub, device_id, uploads[1]["correlationId"])
        assert late.code in {"ExpiredFileUploadCorrelationId", "InvalidFileUploadCorrelationId"}


def test_an_end_is_told_once(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    unsent = notify(shared_hub, device_id, info["correlationId"])
    assert (unsent.status, unsent.code) == (400, "ArgumentInvalid")
    put_blob(shared_hub, url(info))
    for _ in range(3):
        assert notify(shared_hub, device_id, info["correlationId"], in_path=True).status == 204
    assert notify(shared_hub, device_id, info["correlationId"], success=False).status == 204
    assert len(notices(shared_hub, device_id)) == 1
    token = device_token(shared_hub, device_id)
    for bad in ({}, [], {"correlationId": 1, "isSuccess": True}, {"correlationId": "x", "isSuccess": "yes"}):
        path = f"/devices/{device_id}/files/notifications?{VERSION}"
        assert request(shared_hub, "POST", path, bad, token=token).status == 400


def test_bodies_and_files_over_their_limits(device_id: str) -> None:
    limits = {"blob_body": 1000, "blob_size": 2500, "blob_blocks": 3, "blob_staged_blocks": 4}
    with HubInThread(limits=limits) as hub:
        info = begin(hub, device_id)
        assert error_code(put_blob(hub, url(info), b"x" * 1001)) == "RequestBodyTooLarge"
        assert error_code(put_blob(hub, url(info), iter([b"x" * 600] * 2))) == "RequestBodyTooLarge"
        for number in (0, 1):
            assert put_block(hub, info, number, b"x" * 1000).status == 201
        assert put_block(hub, info, 0, b"x" * 1000).status == 201  # put twice is counted anew
        assert put_list(hub, info, [0, 1, 0]).status == 413
        for number, status in ((2, 201), (3, 201), (4, 413)):
            assert put_block(hub, info, number, b"x" * 1000).status == status
        assert put_list(hub, info, [0, 0, 0, 0]).status == 400
        assert put_list(hub, info, [1, 0]).status == 201
        small = begin(hub, device_id, "small")
        for number in range(4):
            assert put_block(hub, small, number, b"x").status == 201
        assert put_block(hub, small, 5, b"x").status == 413
        assert notify(hub, device_id, small["correlationId"], success=False).status == 204
        assert files_in(hub) == [f"{device_id}/a.bin"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<BlockList>",
        b"<Other/>",
        b"<BlockList><Committed>MQ==</Committed></BlockList>",
        b"<BlockList><Latest>%%%</Latest></BlockList>",
        b"<BlockList><Latest></Latest></BlockList>",
        b"<BlockList><Latest>" + b64encode(b"x" * 65) + b"</Latest></BlockList>",
        b"<BlockList><Latest>" + b"M" * 100_000 + b"</Latest></BlockList>",
        b"<BlockList><Latest><Latest>MQ==</Latest></Latest></BlockList>",
        b'<!DOCTYPE x [<!ENTITY a "MQ==">]><BlockList><Latest>&a;</Latest></BlockList>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><BlockList/>',
        b"<BlockList>" + b"<a>" * 10_000,
        b"<BlockList>" + b"<Latest>MQ==</Latest>" * 50_001 + b"</BlockList>",
    ],
)
def test_block_lists_that_are_none(shared_hub: HubInThread, device_id: str, body: bytes) -> None:
    info = begin(shared_hub, device_id)
    answer = put_blob(shared_hub, url(info, "&comp=blocklist"), body)
    assert (answer.status, error_code(answer)) == (400, "InvalidBlockList")


def test_what_would_be_passed_over_is_refused(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    for headers in (
        {"x_ms_blob_type": "PageBlob"},
        {"x_ms_copy_source": "http://169.254.169.254/"},
        {"x_ms_content_crc64": "AAAAAAAAAAA="},
        {"x_ms_lease_id": "x"},
        {"If_Modified_Since": "Mon, 01 Jan 2024 00:00:00 GMT"},
        {"If_None_Match": '"x"'},
    ):
        assert put_blob(shared_hub, url(info), **headers).status == 400, headers
    for comp in ("metadata", "properties", "lease", "page", "appendblock", "tier"):
        assert put_blob(shared_hub, url(info, f"&comp={comp}")).status == 400
    assert put_blob(shared_hub, url(info), If_Match="*").status == 412
    assert get_file(shared_hub, info).status == 404


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-L18")
def test_a_large_body_is_never_held(device_id: str) -> None:
    with HubInThread() as hub:
        info = begin(hub, device_id)
        put_blob(hub, url(info), b"x")
        assert put_blob(hub, url(info), iter([]), Content_Length=str(100 * MIB + 1)).status == 413
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        chunk = bytes(MIB)
        assert put_blob(hub, url(info), iter([chunk] * 100), Content_Length=str(100 * MIB)).status == 201
        assert (hub.data / "files" / device_id / "a.bin").stat().st_size == 100 * MIB
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB


@pytest.mark.parametrize("comp", ["", "&comp=block&blockid=MQ=="], ids=["blob", "block"])
def test_a_body_that_breaks_off_leaves_nothing(shared_hub: HubInThread, device_id: str, comp: str) -> None:
    info = begin(shared_hub, device_id)
    put_blob(shared_hub, url(info), b"before")
    with tls_socket(shared_hub, shared_hub.hub.ports["https"]) as sock:
        head = f"PUT {url(info, comp)} HTTP/1.1\r\nHost: a\r\nx-ms-blob-type: BlockBlob\r\n"
        sock.sendall(f"{head}Content-Length: {4 * MIB}\r\n\r\n".encode() + bytes(2 * MIB))
        assert eventually(lambda: bool(staged(shared_hub)))
    assert eventually(lambda: not staged(shared_hub))
    assert get_file(shared_hub, info).body == b"before"


@pytest.mark.spec("L-L19")
def test_a_body_that_trickles_is_cut_off(shared_hub: HubInThread, device_id: str) -> None:
    info = begin(shared_hub, device_id)
    with tls_socket(shared_hub, shared_hub.hub.ports["https"]) as sock:
        sock.settimeout(20)
        head = f"PUT {url(info)} HTTP/1.1\r\nHost: a\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 100000\r\n\r\n"
        sock.sendall(head.encode() + b"x" * 100)
        began, answer = time.monotonic(), b""
        try:
            while chunk := sock.recv(65536):
                answer += chunk
        except (ssl.SSLError, ConnectionError):
            pass
        assert answer.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began > 9
    assert eventually(lambda: not staged(shared_hub))


def test_one_device_cannot_take_every_place(device_id: str) -> None:
    with HubInThread(limits={"blob_transfers": 2, "blob_transfers_per_device": 1, "blob_turn_within": 1}) as hub:
        slow, other = begin(hub, device_id), begin(hub, f"{device_id}-other")
        with tls_socket(hub, hub.hub.ports["https"]) as sock:
            head = f"PUT {url(slow)} HTTP/1.1\r\nHost: a\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: {MIB}\r\n\r\n"
            sock.sendall(head.encode() + bytes(MIB // 2 + 1))
            assert eventually(lambda: bool(staged(hub)))
            answer = put_blob(hub, url(slow))
            assert (answer.status, error_code(answer)) == (503, "ServerBusy")
            assert put_blob(hub, url(other)).status == 201
            sock.sendall(bytes(MIB - MIB // 2 - 1))
            assert sock.recv(65536).startswith(b"HTTP/1.1 201")
        assert put_blob(hub, url(slow)).status == 201


@pytest.mark.spec("L-S4")
def test_a_full_disk_takes_no_files_and_telemetry_goes_on(device_id: str) -> None:
    with HubInThread(limits={"files_stop_share": 100, "files_stop": 10**18}) as hub:
        info = begin(hub, device_id)
        answer = put_blob(hub, url(info))
        assert (answer.status, error_code(answer)) == (503, "ServerBusy")
        assert int(answer.headers["retry-after"]) > 0
        assert put_block(hub, info, 1, b"x").status == 503
        assert files_in(hub) == []
        token = device_token(hub, device_id)
        assert request(hub, "POST", f"/devices/{device_id}/messages/events", b"x", token=token).status == 204


def test_uploads_go_on_after_a_restart(tmp_path: Path, device_id: str) -> None:
    with HubInThread(tmp_path) as hub:
        address, info = hub.address, begin(hub, device_id)
        assert put_block(hub, info, 1, b"before ").status == 201
        begun = tmp_path / "files/.staging/incoming/half#1"
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.write_bytes(b"what a hub that was killed had begun to receive")
    with HubInThread(tmp_path, address) as hub:
        assert put_block(hub, info, 2, b"after").status == 201
        assert put_list(hub, info, [1, 2]).status == 201
        assert notify(hub, device_id, info["correlationId"]).status == 204
        assert get_file(hub, info).body == b"before after"
        assert files_in(hub) == [f"{device_id}/a.bin"]


def test_what_was_never_finished_is_swept(device_id: str) -> None:
    with HubInThread() as hub:
        info = begin(hub, device_id)
        assert put_block(hub, info, 1, b"x").status == 201
        kept = begin(hub, device_id, "kept")
        assert put_blob(hub, url(kept)).status == 201
        hub.clock.move(3601)
        assert hub.hub.file_upload is not None
        hub.ask(hub.hub.file_upload.files.sweep())
        assert files_in(hub) == [f"{device_id}/kept"]


def test_a_hub_without_files_says_so(device_id: str) -> None:
    with HubInThread(files={"store": "off"}) as hub:
        answer = ask(hub, device_id)
        assert (answer.status, answer.code) == (400, "StorageNotConfigured")
        assert put_blob(hub, "/uploads/a/b").status == 404


def test_back_ends_are_told_nothing_where_that_is_switched_off(device_id: str) -> None:
    with HubInThread(files={"notifications": False, "container": "dropbox"}) as hub:
        info = begin(hub, device_id)
        assert info["containerName"] == "dropbox"
        assert put_blob(hub, url(info)).status == 201
        assert notify(hub, device_id, info["correlationId"]).status == 204
        assert notices(hub, device_id) == []


def test_what_a_device_uploaded_is_listed(shared_hub: HubInThread, device_id: str) -> None:
    for name in ("b/1.bin", "a é.bin"):
        put_blob(shared_hub, url(begin(shared_hub, device_id, name)), name.encode())
    answer = request(shared_hub, "GET", f"/api/devices/{device_id}/files", policy="service")
    assert [each["name"] for each in answer.body] == [f"{device_id}/a é.bin", f"{device_id}/b/1.bin"]
    assert [each["size"] for each in answer.body] == [8, 7]
    for each in answer.body:
        assert request(shared_hub, "GET", each["path"]).status == 200
    assert request(shared_hub, "GET", f"/api/devices/{device_id}/files", policy="device").status == 401
