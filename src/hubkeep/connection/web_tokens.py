"""JSON web tokens of the OpenID Connect provider: from bytes to a person. Start at ``WebTokens.signed``.

A token is checked by the provider's keys alone: whatever it says of keys itself (``jku``, ``jwk``, ``x5u``, ``x5c``) is
never looked at. Sources: service-protocols 1.6; limits-and-faults L-I7; RFC 7515, 7519, 8725 (best current practices),
9068 (access tokens).
"""

import binascii
import hmac
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt

from hubkeep.cloud.audit import safe
from hubkeep.cloud.provider_keys import ProviderKeys
from hubkeep.errors import FormatError, Unauthorized
from hubkeep.limits import WEB_TOKEN, WEB_TOKEN_EARLY, WEB_TOKEN_TEXTS
from hubkeep.model import Person
from hubkeep.ports import Clock

from .strict_json import strict_json

_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_KEY_ID: Final = 256  # characters
_TEXT: Final = 256  # characters of a claim that a role may be given by
_DEPTH: Final = 3
_SCOPE: Final = frozenset({"scope", "scp"})  # words between spaces (RFC 8693 4.2)
_TOLD: Final = 128


class Accepted(NamedTuple):
    """What the settings accept. clients: those that tokens may be made for; empty: any. name_claim: shown to people."""

    issuer: str
    audiences: frozenset[str]
    clients: frozenset[str]
    algorithms: frozenset[str]
    name_claim: str


class WebTokens:
    """grace: seconds after its end that a token still counts."""

    def __init__(self, accepted: Accepted, keys: ProviderKeys, clock: Clock, grace: float) -> None:
        self._accepted, self._keys, self._clock, self._grace = accepted, keys, clock, grace
        self._jws = jwt.PyJWS(algorithms=sorted(accepted.algorithms))

    async def signed(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that the provider signed, whatever they say. Raises Unauthorized."""
        header, claims = _opened(token)
        key_id, algorithm = self._checked_header(header)
        issuer = claims.get("iss")
        if issuer != self._accepted.issuer:  # before anything is fetched
            raise Unauthorized(
                cause="web-token-issuer",
                reason=f"the token is of the issuer {_told(issuer)}, not of {self._accepted.issuer!r}",
            )
        found = await self._keys.find(key_id, algorithm)
        if found is None:
            raise self._unknown_key(key_id, algorithm)
        try:
            self._jws.decode_complete(token, found.key, algorithms=[algorithm])
        except jwt.PyJWTError as error:
            raise Unauthorized(
                cause="web-token-signature",
                reason=f"the signature is not by the provider's key {_told(key_id)}: {error}",
            ) from None
        return claims

    def check_identity(self, claims: Mapping[str, Any], client: str, nonce: str) -> str:
        """Of an identity token (OpenID Connect Core 3.1.3.7): it is for ``client``, and for this one sign-in; whom it
        names. claims: signed. Raises Unauthorized.
        """
        told = claims.get("aud")
        is_ours = told == client or (isinstance(told, list) and client in told and claims.get("azp") == client)
        shown = claims.get("nonce")
        if not is_ours or not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), nonce.encode()):
            raise Unauthorized(cause="web-token-nonce", reason=f"an identity token for {_told(told)}, or not for now")
        self._check_times(claims)
        return str(claims.get("sub", ""))

    def person(self, claims: Mapping[str, Any]) -> tuple[Person, float]:
        """Who it is, and the token's end in Unix seconds. claims: signed. Raises Unauthorized."""
        self._check_audience(claims)
        ends = self._check_times(claims)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _TEXT or not subject.isprintable():
            raise Unauthorized(cause="web-token-names-nobody", reason="the token names nobody (sub)")
        return Person(
            issuer=self._accepted.issuer, subject=subject, name=self.name_in(claims), claims=_texts(claims)
        ), ends

    def name_in(self, claims: Mapping[str, Any]) -> str:
        """As people are told it; the subject where the token has no name."""
        name = claims.get(self._accepted.name_claim) or claims.get("sub")
        return safe(name)[:_TOLD] if isinstance(name, str) else ""

    def _checked_header(self, header: Mapping[str, Any]) -> tuple[str, str]:
        """Key id and algorithm."""
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in self._accepted.algorithms:
            raise Unauthorized(
                cause="web-token-algorithm",
                reason=f"the token is signed by {_told(algorithm)}; accepted: {_listed(self._accepted.algorithms)}",
            )
        if "crit" in header:
            raise Unauthorized(
                cause="web-token-extension",
                reason=f"the token insists on what is not understood here: crit {_told(header['crit'])}",
            )
        kind = header.get("typ", "")
        if not isinstance(kind, str) or kind.lower() not in _TYPES or "cty" in header:
            raise Unauthorized(
                cause="web-token-type",
                reason=f"the token is no access token: typ {_told(kind)}, cty {_told(header.get('cty'))}",
            )
        if not isinstance(key_id, str) or len(key_id) > _KEY_ID:
            raise Unauthorized(cause="web-token-key", reason="the token's key id (kid) is no text, or too long")
        return key_id, str(algorithm)

    def _unknown_key(self, key_id: str, algorithm: str) -> Unauthorized:
        if not self._keys.is_fresh:
            return Unauthorized(
                cause="provider-away", reason=f"the provider's keys are not there: {self._keys.failure}"
            )
        return Unauthorized(cause="web-token-key", reason=f"the provider has no key {_told(key_id)} for {algorithm}")

    def _check_audience(self, claims: Mapping[str, Any]) -> None:
        told = claims.get("aud")
        audiences = [told] if isinstance(told, str) else told if isinstance(told, list) else []
        if not any(isinstance(each, str) and each.rstrip("/") in self._accepted.audiences for each in audiences):
            raise Unauthorized(
                cause="web-token-audience",
                reason=f"the token is for {_told(told)}; accepted: {_listed(self._accepted.audiences)}",
            )
        if self._accepted.clients:
            client = next((claims[each] for each in ("azp", "client_id", "appid") if each in claims), None)
            if client not in self._accepted.clients:
                raise Unauthorized(
                    cause="web-token-client", reason=f"the token was made for the client {_told(client)}"
                )

    def _check_times(self, claims: Mapping[str, Any]) -> float:
        now, ends = self._clock.now(), _seconds(claims, "exp")
        if ends is None:
            raise Unauthorized(cause="web-token-times", reason="the token never ends (exp)")
        if now > ends + self._grace:
            raise Unauthorized(cause="web-token-expired", reason=f"the token expired {now - ends:.0f} seconds ago")
        for name in ("nbf", "iat"):
            begins = _seconds(claims, name)
            if begins is not None and begins > now + WEB_TOKEN_EARLY.value:
                raise Unauthorized(
                    cause="web-token-early", reason=f"the token begins {begins - now:.0f} seconds from now ({name})"
                )
        return ends


def in_header(authorization: str | None) -> str | None:
    """The token of a Bearer header; None for any other credential."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def in_put_token(token: str) -> str | None:
    """What is put on ``$cbs``, with or without the word Bearer; None for a shared access signature (1.6)."""
    text = in_header(token)
    text = token.strip() if text is None else text
    return None if text[:21].lower() == "sharedaccesssignature" or text.count(".") != 2 else text


def told_of(token: str) -> dict[str, str]:
    """What a token says of itself, for the record of its refusal; none of it can be relied on, and none is secret."""
    try:
        header, claims = _opened(token)
    except Unauthorized:
        return {"token": f"{len(token)} characters that are no web token"}
    told = {"alg": header.get("alg"), "kid": header.get("kid"), "typ": header.get("typ")}
    told |= {name: claims.get(name) for name in ("iss", "aud", "azp", "sub", "exp", "nbf")}
    return {name: _told(value) for name, value in told.items() if value is not None}


def _opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, nothing of them checked. Raises Unauthorized."""
    if len(token) > WEB_TOKEN.value:
        raise Unauthorized(
            cause="web-token-size", reason=f"a web token of {len(token)} characters; at most {WEB_TOKEN.value}"
        )
    parts = _PARTS.fullmatch(token)
    if parts is None:
        raise Unauthorized(
            cause="web-token-malformed", reason="the bearer token is no signed JSON web token of three parts"
        )
    return _decoded(parts[1], "header"), _decoded(parts[2], "claims")


def _decoded(part: str, what: str) -> dict[str, Any]:
    try:
        value = strict_json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        raise Unauthorized(cause="web-token-malformed", reason=f"the web token's {what} is not base64") from None
    except FormatError as error:
        raise Unauthorized(
            cause="web-token-malformed", reason=f"the web token's {what}: {error.reason.removeprefix('the body is ')}"
        ) from None
    if not isinstance(value, dict):
        raise Unauthorized(cause="web-token-malformed", reason=f"the web token's {what} is no JSON object")
    return value


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate. Raises Unauthorized for what is none."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value > 1e12:
        raise Unauthorized(cause="web-token-times", reason=f"the token's {name} is no time: {_told(value)}")
    return float(value)


def _texts(claims: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for name, text in _walked(claims, "", _DEPTH):
        if len(found) >= WEB_TOKEN_TEXTS.value:
            break
        if len(text) <= _TEXT:
            found.add((name, text))
    return frozenset(found)


def _walked(value: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    for name, each in value.items():
        path = prefix + name
        if isinstance(each, str):
            yield from ((path, word) for word in (each.split(" ") if path in _SCOPE else (each,)))
        elif isinstance(each, list):
            yield from ((path, item) for item in each if isinstance(item, str))
        elif isinstance(each, dict) and depth > 1:
            yield from _walked(each, f"{path}.", depth - 1)


def _told(value: object) -> str:
    return repr(safe(value)[:_TOLD]) if isinstance(value, str) else safe(repr(value))[:_TOLD]


def _listed(values: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(values))
