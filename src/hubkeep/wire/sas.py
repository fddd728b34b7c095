"""Shared access signatures: parse, check, make, and say in plain words what is wrong with one.

Source: device-protocols 2, service-protocols 1.1 to 1.3; cases in tests/vectors/sas.toml.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

MAX_TOKEN: Final = 4096
_MAX_EXPIRY_DIGITS: Final = 20
_PREFIX: Final = "sharedaccesssignature"


class TokenRefused(Exception):
    """The text says for the operator what is wrong; it is never sent to the peer."""


class SasToken(NamedTuple):
    """sr and se exactly as sent (they are what was signed); skn decoded; signature decoded to bytes."""

    sr: str
    se: str
    skn: str
    signature: bytes

    @property
    def expiry(self) -> int:
        """Unix seconds."""
        return int(self.se)

    def __repr__(self) -> str:
        return f"SasToken(sr={self.sr!r}, se={self.se!r}, skn={self.skn!r})"


def percent_decoded(text: str) -> str:
    """Percent-decoding without plus-to-space; a broken escape stays literal."""
    return unquote_to_bytes(text).decode(errors="replace") if "%" in text else text


def parse(text: str) -> SasToken:
    """A token by its field names, in any order. Raises TokenRefused."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused(f"the token is longer than {MAX_TOKEN} characters")
    if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
        raise TokenRefused("the token is not UTF-8")  # an HTTP header's odd bytes come as surrogates
    prefix, _, rest = text.strip().partition(" ")
    if prefix.lower() != _PREFIX or not rest:
        raise TokenRefused("the text does not begin with 'SharedAccessSignature '")
    fields: dict[str, str] = {}
    for item in rest.split("&"):
        name, equals, value = item.partition("=")
        name = name.strip().lower()
        if name in fields:
            raise TokenRefused(f"the field {name} stands twice")
        if equals:
            fields[name] = value
    missing = [name for name in ("sr", "sig", "se") if not fields.get(name)]
    if missing:
        raise TokenRefused(f"the token has no field {' and no field '.join(missing)}")
    se = fields["se"]
    if not se.isascii() or not se.isdigit() or len(se) > _MAX_EXPIRY_DIGITS:
        raise TokenRefused("se is not a whole number of seconds")
    sig = percent_decoded(fields["sig"])
    try:
        signature = b64decode(sig, validate=True)
    except (NotBase64, ValueError):
        raise TokenRefused("sig is not base64") from None
    if b64encode(signature).decode() != sig:
        raise TokenRefused("sig has stray bits at its end")  # one signature, one text (D-V16)
    return SasToken(fields["sr"], se, percent_decoded(fields.get("skn", "")), signature)


def signature(sr: str, se: str, key: bytes) -> bytes:
    return hmac.digest(key, f"{sr}\n{se}".encode(), sha256)


def is_signed_by(token: SasToken, key: bytes) -> bool:
    """Whether ``key`` signed the token, over its text as sent. Constant time."""
    return hmac.compare_digest(signature(token.sr, token.se, key), token.signature)


def key_text(key: bytes) -> bytes:
    """The base64 text of a key: what Event Hubs clients use as HMAC key (service-protocols 1.3)."""
    return b64encode(key)


def make(resource: str, key: bytes, expiry: int, policy: str = "") -> str:
    """A token for ``resource`` (``host/devices/id``), signed with the decoded key. expiry: Unix seconds."""
    sr = quote(resource, safe="")
    sig = quote(b64encode(signature(sr, str(expiry), key)).decode(), safe="")
    return f"SharedAccessSignature sr={sr}&sig={sig}&se={expiry}" + (f"&skn={quote(policy, safe='')}" if policy else "")


class Resource(NamedTuple):
    """A way to read ``sr``: host in lower case without scheme and port, and the path's segments."""

    host: str
    segments: tuple[str, ...]
    scheme: str


def resources(sr: str) -> Sequence[Resource]:
    """All ways in which ``sr`` may be meant, likeliest first: decoded once, its segments once more, raw (2.4)."""
    once = _resource(percent_decoded(sr))
    twice = Resource(once.host, tuple(percent_decoded(each) for each in once.segments), once.scheme)
    found = [once]
    for other in (twice, _resource(sr)):
        if other not in found:
            found.append(other)
    return found


def _resource(text: str) -> Resource:
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "", scheme
    segments = rest.rstrip("/").split("/")
    host = segments[0].lower()
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        host = name
    path = segments[1:]
    # older tools end the resource with an api-version segment (2.5)
    if len(path) > 1 and path[-1].lower().startswith("api-version="):
        path = path[:-1]
    return Resource(host, tuple(path), scheme.lower())


def covers(scope: Iterable[str], path: Sequence[str]) -> bool:
    """Whether ``path`` is ``scope`` or lies under it, by whole segments. Upper and lower case are equal (D-Q10)."""
    wanted = list(scope)
    begin = list(path[: len(wanted)])
    return begin == wanted or [each.lower() for each in begin] == [each.lower() for each in wanted]


class ConnectionString(NamedTuple):
    """parts: by their names as written."""

    parts: dict[str, str]

    @property
    def host(self) -> str:
        endpoint = self.parts.get("Endpoint", "")
        return self.parts.get("HostName") or endpoint.partition("://")[2].strip("/")

    @property
    def key(self) -> bytes:
        """The decoded key. Raises ValueError when it is no base64."""
        return b64decode(self.parts["SharedAccessKey"], validate=True)

    def __repr__(self) -> str:
        return f"ConnectionString({self.host!r})"


def parse_connection_string(text: str) -> ConnectionString:
    """``Name=value`` joined by ``;``, the first ``=`` splits. Raises ValueError with what is missing."""
    parts: dict[str, str] = {}
    for item in text.strip().rstrip(";").split(";"):
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"a connection string is made of Name=value; {name[:20]!r} has no '='")
        parts[name.strip()] = value.strip()
    if "HostName" not in parts and "Endpoint" not in parts:
        raise ValueError("the connection string has no HostName")
    return ConnectionString(parts)
