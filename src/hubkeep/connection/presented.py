"""Reading what a peer presents as its credential, and what to tell the operator when it proves nothing."""

import binascii
import os
from base64 import b64decode
from collections.abc import Sequence
from typing import Final

from hubkeep.errors import Unauthorized
from hubkeep.model import Identity
from hubkeep.wire import sas

DECOY: Final = os.urandom(32)
"""A key of nobody, to compare with where there is none: time tells nothing then."""


def basic(header: str) -> tuple[str, str]:
    """User and password of a Basic credential (RFC 7617). Raises Unauthorized."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise Unauthorized(
                cause="token-names-nobody", reason="the Authorization header is not Basic, and names no device"
            )
        name, _, secret = b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Unauthorized(
            cause="basic-malformed", reason="the Basic credential is not base64 of a name and a password"
        ) from None
    if not secret:  # it would be taken for none, and the certificate would count that names somebody else
        raise Unauthorized(cause="basic-malformed", reason="the Basic credential has no password")
    return name, secret


def parsed(token: str | None) -> sas.SasToken:
    """Raises Unauthorized, after the time that a well-formed token of nobody takes."""
    try:
        return sas.parse(token or "")
    except sas.TokenRefused as refused:
        waste(2)
        cause, reason = ("token-malformed", str(refused)) if token else ("token-missing", "no token was presented")
        raise Unauthorized(cause=cause, reason=reason, remedy="hubkeep token make") from None


def waste(times: int) -> None:
    """The work of checking a signature, where there is none to check."""
    for _ in range(times):
        sas.signature("", "", DECOY)


def identities_in(token: sas.SasToken) -> Sequence[tuple[str, str]]:
    """The device and module that a token without a policy may mean by its ``sr``, the likeliest first: some clients
    encode an id twice (D-N15), and a per cent sign may be part of one. Raises Unauthorized: none.
    """
    found: dict[tuple[str, str], None] = {}
    for resource in sas.resources(token.sr):
        segments = resource.segments
        words = [each.lower() for each in segments]
        if len(words) >= 4 and words[0] == "devices" and words[2] == "modules":
            found[segments[1], segments[3]] = None
        elif len(words) >= 2 and words[0] == "devices":
            found[segments[1], ""] = None
    if found:
        return tuple(found)
    raise Unauthorized(
        cause="token-names-nobody", reason=f"the token's sr names no device and no policy signed it: {token.sr!r}"
    )


def is_for(segments: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a token signed for ``segments`` counts for the identity at ``path``."""
    if not sas.covers(path, segments):
        return False
    # a device's token is not for its modules (2.5): what follows the identity must not name one
    return not (len(path) == 2 and len(segments) > 2 and segments[2].lower() == "modules")


def why_unsigned(token: sas.SasToken, identity: Identity, path: Sequence[str]) -> str:
    """The likeliest mistake behind a signature of neither key, for the operator alone."""
    for key in (identity.primary_key, identity.secondary_key):
        if key is not None and sas.is_signed_by(token, sas.key_text(key)):
            return "the key's base64 text was used as the key; it must be decoded first"
    wanted, got = "/".join(path), "/".join(sas.resources(token.sr)[0].segments)
    if got.lower() == wanted.lower() and got != wanted:
        return f"the signature matches neither key; the token was signed for {got!r} (the case differs from {wanted!r})"
    return "the signature matches neither key" + ("" if got == wanted else f"; the token was signed for {got!r}")


def span(seconds: float) -> str:
    """As people say it: "3 days"."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
