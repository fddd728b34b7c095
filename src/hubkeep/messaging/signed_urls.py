"""Signed URLs of one file, as storage clients carry them. Source: device-protocols 5.4, "sasToken"."""

import datetime as dt
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from hubkeep.errors import Forbidden, UrlRefused
from hubkeep.model import Upload

VERSION: Final = "2018-03-28"
PERMISSIONS: Final = "rw"  # of the one file: write it, and read back what was written
_SIGNED: Final = ("sv", "sr", "si", "sp", "se")  # in this order; si: which upload
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def signed_query(key: bytes, container: str, upload: Upload) -> str:
    """``?sv=...&sig=...``: opens ``upload``'s file until the upload expires."""
    expiry = dt.datetime.fromtimestamp(upload.expires, dt.UTC).strftime(_FORMAT)
    values = dict(zip(_SIGNED, (VERSION, "b", upload.upload_id, PERMISSIONS, expiry), strict=True))
    values["sig"] = _signature(key, container, upload.blob_name, values)
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in values.items())


def check_signed(
    key: bytes, container: str, blob_name: str, query: Mapping[str, str], now: float, permission: str
) -> str:
    """The upload that ``query`` opens. Raises UrlRefused, Forbidden (genuine, but without ``permission``).

    Everything in the query that says what the URL opens is under the signature, and so are container and name.
    """
    values = {name: query.get(name, "") for name in _SIGNED}
    expected = _signature(key, container, blob_name, values)
    if not hmac.compare_digest(expected.encode(), query.get("sig", "").encode()):
        raise UrlRefused(
            cause="url-signature",
            reason="the signature of the URL does not match: another file, another hub, or changed on the way",
            remedy="ask for a new one: POST /devices/{id}/files",
        )
    try:
        expires = dt.datetime.strptime(values["se"], _FORMAT).replace(tzinfo=dt.UTC).timestamp()
    except ValueError:
        raise UrlRefused(cause="url-signature", reason="the expiry of the URL is no time") from None
    if now >= expires:
        raise UrlRefused(
            cause="url-expired",
            reason=f"the URL expired at {values['se']}",
            remedy="ask for a new one: POST /devices/{id}/files",
        )
    if permission not in values["sp"]:
        raise Forbidden(cause="url-right", reason=f"the URL allows {values['sp']!r}, this needs {permission!r}")
    return values["si"]


def _signature(key: bytes, container: str, blob_name: str, values: Mapping[str, str]) -> str:
    # NUL stands in none of the parts: names have no control characters, and the rest is compared as a whole
    text = "\0".join(("hubkeep upload", container, blob_name, *(values[name] for name in _SIGNED)))
    return urlsafe_b64encode(hmac.digest(key, text.encode(), sha256)).rstrip(b"=").decode()
