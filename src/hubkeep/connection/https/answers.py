"""What goes back: JSON, etags and time stamps as clients read them, and refusals in form A (service-protocols 2.16)."""

import os
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from hubkeep.errors import HubError, on_wire

from ..refusal_bodies import numbered_refusal, refusal_text, tracking_stamp
from ..registration_documents import provisioning_refusal
from .exchange import RefusalForm

JSON: Final = "application/json; charset=utf-8"
_ALWAYS: Final = {
    "Server": "Hubkeep",
    # for browsers: nothing here is a page, a script, or to be shown in another page, and HTTPS is all there is
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def json_answer(value: Any, *, etag: str = "") -> web.Response:
    """200 with ``value``; etag: unquoted, as stored."""
    headers = {"Content-Type": JSON}
    if etag:
        headers["ETag"] = f'"{etag}"'
    return web.Response(body=msgspec.json.encode(value), headers=headers)


def no_content() -> web.Response:
    return web.Response(status=HTTPStatus.NO_CONTENT)


class RefusalAnswer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def refusal_answer(error: BaseException, tracking_id: str, now: float, *, form: RefusalForm = "plain") -> RefusalAnswer:
    """What is no HubError is told as a fault of the hub, without any detail. now: Unix seconds."""
    row = on_wire(error)
    body: dict[str, Any]
    if form == "provisioning":
        body = provisioning_refusal(error, tracking_id, now)
    elif form == "numbered":
        text = msgspec.json.encode(numbered_refusal(error, tracking_id, now)).decode()
        body = {"Message": text, "ExceptionMessage": ""}
    else:
        # clients split Message at ";" and ":" and lose what they do not expect there
        message = f"ErrorCode:{row.name};{refusal_text(error).replace(';', ',')}"
        exception = f"Tracking ID:{tracking_id}-G:0-TimeStamp:{tracking_stamp(now)}"
        body = {"Message": message, "ExceptionMessage": exception}
    headers = {"Content-Type": JSON, "iothub-errorcode": row.name}
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(seconds)
    return RefusalAnswer(row.http, headers, msgspec.json.encode(body))


def refusal_bytes(error: HubError, now: float) -> bytes:
    """A refusal outside any request: the whole answer, after which the connection ends."""
    status, headers, body = refusal_answer(error, error.tracking_id, now)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in {**headers, **standard_headers()}.items()),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def standard_headers() -> dict[str, str]:
    """On every answer."""
    digits = os.urandom(16).hex()  # as a UUID of version 4, at a quarter of what making one costs
    request_id = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    return {"x-ms-request-id": request_id, **_ALWAYS}


def normal_etag(header: str) -> str:
    """An ``If-Match`` value as it compares: ``*`` or a stored etag, whichever way it was written."""
    etag = header.strip().removeprefix("W/")
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag
