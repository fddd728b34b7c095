"""Devices that show a JSON web token of the company's issuer.

It is checked by the issuer's keys alone: what it says of keys itself (``jku``, ``jwk``, ``x5u``, ``x5c``) is never
looked at, and only asymmetric signatures are taken, so that no public key can be used as a secret. Sources: RFC 7515,
7517, 7519, 8725; limits-and-faults L-I7.
"""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from hubkeep.connection.strict_json import strict_json
from hubkeep.errors import FormatError, HubError, ServerBusy, Unauthorized
from hubkeep.limits import PROVIDER_DOCUMENT, PROVIDER_KEYS_AGAIN, WEB_TOKEN, WEB_TOKEN_EARLY
from hubkeep.ports import Clock, Fetch, FetchFailed

from .plugins import Presented, Proved
from .settings import WebTokenOptions

_FETCH_WITHIN: Final = 10.0
_KEPT: Final = 3600.0  # seconds after which keys are asked for anew
_LATE: Final = 60.0  # seconds after its end that a token still counts
_RSA_BITS: Final = 2048
_KINDS: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class WebTokens:
    """See plugins.DeviceAuthenticator."""

    def __init__(self, options: WebTokenOptions, fetch: Fetch, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._keys = IssuerKeys(options.keys_file, options.keys_url, fetch, clock)
        self._jws = jwt.PyJWS(algorithms=list(options.algorithms))

    async def prove(self, presented: Presented) -> Proved:
        if presented.scheme != "bearer":
            raise Unauthorized(
                cause="device-proof-missing",
                reason="no bearer token was shown",
                remedy="send Authorization: Bearer TOKEN",
            )
        claims = await self._claims(presented.credential)
        self._check(claims)
        device_id = self._named(claims, self._options.device_claim, self._options.device_prefix)
        if self._options.module_claim and self._options.module_claim in claims:
            return Proved(device_id, self._named(claims, self._options.module_claim, ""))
        return Proved(device_id)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        """What the issuer signed. Raises Unauthorized, ServerBusy."""
        if len(token) > WEB_TOKEN.value:
            raise _refused(reason=f"a web token of {len(token)} characters; at most {WEB_TOKEN.value}")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise _refused(reason=f"this is no signed JSON web token: {error}") from None
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in self._options.algorithms:
            raise _refused(
                reason=f"the token is signed by {algorithm!r}; taken: {', '.join(self._options.algorithms)}",
                remedy="have the issuer sign with one of them, or add it to jwt.algorithms",
            )
        if "crit" in header or not isinstance(key_id, str):
            raise _refused(reason="the token's header insists on what is not understood here (crit, kid)")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise _refused(
                reason=f"the issuer has no key {key_id[:128]!r} for {algorithm}",
                remedy="get a new token; a key just made is known here ten seconds later at most",
            )
        try:
            payload = self._jws.decode_complete(token, key, algorithms=[algorithm])["payload"]
            claims = strict_json(payload)
        except jwt.PyJWTError as error:
            raise _refused(reason=f"the signature is not by the issuer's key {key_id[:128]!r}: {error}") from None
        except HubError as error:
            raise _refused(reason=f"the token's claims: {error.reason}") from None
        if not isinstance(claims, dict):
            raise _refused(reason="the token's claims are no JSON object")
        return claims

    def _check(self, claims: Mapping[str, Any]) -> None:
        """Issuer, audience and times. Raises Unauthorized."""
        if claims.get("iss") != self._options.issuer:
            raise _refused(
                reason=f"the token is of the issuer {str(claims.get('iss'))[:128]!r}, not of {self._options.issuer!r}",
                remedy="it counts letter by letter, slash at the end too",
            )
        told = claims.get("aud")
        if not set(self._options.audiences) & {each for each in _listed(told) if isinstance(each, str)}:
            raise _refused(
                reason=f"the token is for {str(told)[:128]!r}; taken: {', '.join(self._options.audiences)}",
                remedy="have the issuer make it for this service, or add its audience to jwt.audiences",
            )
        now, ends = self._clock.now(), _time(claims, "exp")
        if ends is None:
            raise _refused(reason="the token never ends (exp)", remedy="have the issuer put exp into it")
        if now > ends + _LATE:
            raise _refused(reason=f"the token expired {now - ends:.0f} s ago", remedy="get a new one; check the clocks")
        for name in ("nbf", "iat"):
            begins = _time(claims, name)
            if begins is not None and begins > now + WEB_TOKEN_EARLY.value:
                raise _refused(reason=f"the token begins in {begins - now:.0f} s ({name})", remedy="check the clocks")

    @staticmethod
    def _named(claims: Mapping[str, Any], claim: str, prefix: str) -> str:
        value = claims.get(claim)
        if not isinstance(value, str) or not value.startswith(prefix) or value == prefix:
            raise _refused(
                reason=f"the claim {claim} names no device: {str(value)[:128]!r}",
                remedy="jwt.device_claim, jwt.device_prefix and jwt.module_claim say which claim names it",
            )
        return value.removeprefix(prefix)


class IssuerKeys:
    """The issuer's public keys (JWKS), from a file or an address. Keys that were there stay while none can be had."""

    def __init__(self, path: Path | None, url: str, fetch: Fetch, clock: Clock) -> None:
        self._path, self._url, self._fetch, self._clock = path, url, fetch, clock
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._made: dict[tuple[str, str], jwt.PyJWK] = {}
        self._asked, self._had = -math.inf, -math.inf
        self._failure = ""
        self._stamp = 0
        self._one_at_a_time = asyncio.Lock()

    async def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """None: the issuer has no such key. Raises ServerBusy: its keys have never come."""
        async with self._one_at_a_time:
            now = self._clock.monotonic()
            if self._path is not None or now > self._had + _KEPT:
                await self._refresh(now)
            key = self._known(key_id, algorithm)
            if key is None and self._path is None:
                await self._refresh(now)
                key = self._known(key_id, algorithm)
            if key is None and not self._keys:
                raise ServerBusy(
                    reason=f"the issuer's keys are not there: {self._failure}",
                    remedy="look at jwt.keys_url, jwt.keys_file and the rules of egress",
                )
            return key

    def _known(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        if (key_id, algorithm) in self._made:
            return self._made[key_id, algorithm]
        fitting = [each for each in self._keys if _fits(each, key_id, algorithm)]
        if len(fitting) != 1:  # without a key id, one key alone can be meant
            return None
        try:
            made = jwt.PyJWK(dict(fitting[0]), algorithm)
        except jwt.PyJWTError:
            return None
        if getattr(made.key, "key_size", _RSA_BITS) < _RSA_BITS and algorithm[:2] in {"RS", "PS"}:
            return None
        self._made[key_id, algorithm] = made
        return made

    async def _refresh(self, now: float) -> None:
        if self._path is None and now < self._asked + PROVIDER_KEYS_AGAIN.value:
            return
        self._asked = now
        try:
            content = self._read() if self._path is not None else await self._fetched()
            if content is None:
                return
            found = strict_json(content)
            keys = found.get("keys") if isinstance(found, dict) else None
            if not isinstance(keys, list):
                raise FormatError(reason="a JWKS is an object with the member keys")
        except (OSError, FetchFailed, HubError) as error:
            self._failure = error.reason if isinstance(error, HubError) else str(error)
            return
        self._keys, self._made = tuple(each for each in keys if isinstance(each, dict)), {}
        self._had, self._failure = now, ""

    def _read(self) -> bytes | None:
        assert self._path is not None
        state = self._path.stat()
        if (stamp := hash((state.st_mtime_ns, state.st_size, state.st_ino))) == self._stamp:
            return None
        content = self._path.read_bytes()[: PROVIDER_DOCUMENT.value + 1]
        self._stamp = stamp
        return content

    async def _fetched(self) -> bytes:
        return await self._fetch(self._url, at_most=PROVIDER_DOCUMENT.value, within=_FETCH_WITHIN)


def _fits(key: Mapping[str, Any], key_id: str, algorithm: str) -> bool:
    return (
        key.get("kty") == _KINDS[algorithm[:2]]
        and (not key_id or key.get("kid") == key_id)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and key.get("crv") == _CURVES.get(algorithm, key.get("crv"))
    )


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate. Raises Unauthorized for what is none."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise _refused(reason=f"the token's {name} is no time")
    return float(value)


def _refused(reason: str, remedy: str = "") -> Unauthorized:
    return Unauthorized(cause="device-web-token", reason=reason, remedy=remedy)
