"""The signing keys of the OpenID Connect provider: discovered, kept, renewed, and kept through its outages.

Sources: OpenID Connect Discovery 1.0 section 4; RFC 7517 (JWK sets); limits-and-faults L-I7.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from hubkeep.errors import HubError
from hubkeep.limits import (
    PROVIDER_DOCUMENT,
    PROVIDER_KEYS,
    PROVIDER_KEYS_AGAIN,
    PROVIDER_KEYS_EVERY,
    PROVIDER_KEYS_KEPT,
    PROVIDER_WITHIN,
)
from hubkeep.ports import Clock, Fetch, FetchFailed

log = logging.getLogger("hubkeep.people")

_DISCOVERY: Final = "/.well-known/openid-configuration"
_RSA_BITS: Final = (2048, 8192)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class ProviderKey(NamedTuple):
    """key_id: empty where the provider names none. algorithm: empty for any that the kind of key allows."""

    key_id: str
    algorithm: str
    key: PublicKey

    def serves(self, algorithm: str) -> bool:
        """Never by the token's word alone: an RSA key checks no ES256, and no key here checks an HMAC."""
        if self.algorithm and self.algorithm != algorithm:
            return False
        if isinstance(self.key, rsa.RSAPublicKey):
            return algorithm in {"RS256", "PS256"}
        return algorithm == "ES256"


class ProviderKeys:
    """Keys and endpoints of one issuer.

    A key that the provider takes back is gone here at the next fetch, PROVIDER_KEYS_EVERY seconds later at most. While
    the provider is away, what was fetched last counts on for PROVIDER_KEYS_KEPT seconds.
    """

    def __init__(self, issuer: str, fetch: Fetch, clock: Clock) -> None:
        self._issuer, self._fetch, self._clock = issuer, fetch, clock
        self._keys: Sequence[ProviderKey] = ()
        self._document: Mapping[str, Any] = {}
        self._fetched = self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self.failure = "its keys were not fetched yet"
        self.fetches = 0

    async def find(self, key_id: str, algorithm: str) -> ProviderKey | None:
        """The key of this id that may check this algorithm; without an id, the only one that may.

        For one that is not known the keys are fetched again, PROVIDER_KEYS_AGAIN seconds after the last time at the
        soonest, whatever strangers ask for.
        """
        if not self.is_fresh:
            await self._fetch_again()
        found = self._among(key_id, algorithm)
        if found is None and await self._fetch_again():
            found = self._among(key_id, algorithm)
        return found

    @property
    def is_fresh(self) -> bool:
        """Whether what was fetched may still be used."""
        return self._clock.monotonic() - self._fetched <= PROVIDER_KEYS_KEPT.value

    async def endpoint(self, name: str) -> str:
        """Of the provider's own document: ``token_endpoint`` ... ; empty where it has none."""
        if not self._document:
            await self._fetch_again()
        url = self._document.get(name, "")
        return url if isinstance(url, str) and self._is_secure(url) else ""

    async def renew(self) -> None:
        """Called now and then."""
        if self._clock.monotonic() - self._fetched >= PROVIDER_KEYS_EVERY.value:
            await self._fetch_again()

    def _among(self, key_id: str, algorithm: str) -> ProviderKey | None:
        if not self.is_fresh:
            return None
        serving = [each for each in self._keys if each.serves(algorithm)]
        if key_id:
            return next((each for each in serving if each.key_id == key_id), None)
        return serving[0] if len(serving) == 1 else None

    async def _fetch_again(self) -> bool:
        """Whether others may be known now. Who comes while a fetch is under way waits for that one."""
        asked = self._clock.monotonic()
        async with self._fetching:
            if self._fetched > asked:
                return True
            if self._clock.monotonic() - self._tried < PROVIDER_KEYS_AGAIN.value:
                return False
            self._tried = self._clock.monotonic()
            self.fetches += 1
            try:
                document = await self._json(self._issuer.rstrip("/") + _DISCOVERY)
                if document.get("issuer") != self._issuer:
                    raise FetchFailed(f"the provider calls itself {str(document.get('issuer'))[:200]!r}")
                where = document.get("jwks_uri")
                if not isinstance(where, str) or not self._is_secure(where):
                    raise FetchFailed("its jwks_uri is no https address")
                keys = _keys_in(await self._json(where))
            except (FetchFailed, HubError) as error:
                self.failure = error.reason if isinstance(error, HubError) else str(error)
                log.warning("the keys of %s could not be fetched: %s", self._issuer, self.failure)
                return False
            self._document, self._keys = document, keys
            self._fetched, self.failure = self._clock.monotonic(), ""
            return True

    async def _json(self, url: str) -> dict[str, Any]:
        """Raises FetchFailed, EgressRefused."""
        content = await self._fetch(url, at_most=PROVIDER_DOCUMENT.value, within=PROVIDER_WITHIN.value)
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            raise FetchFailed(f"what {url} answers is no JSON") from None
        if not isinstance(value, dict):
            raise FetchFailed(f"what {url} answers is no JSON object")
        return value

    def _is_secure(self, url: str) -> bool:
        """Plain HTTP only where the issuer itself has it: a provider on this machine."""
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            return False
        return scheme == "https" or (scheme == "http" and self._issuer.startswith("http://"))


def _keys_in(document: Mapping[str, Any]) -> list[ProviderKey]:
    """Those that can check a signature; what else stands there is passed over. Raises FetchFailed."""
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise FetchFailed("the provider's key set holds no keys")
    found = [key for entry in entries[: PROVIDER_KEYS.value] if (key := _key(entry)) is not None]
    if not found:
        raise FetchFailed("none of the provider's keys can check a signature by RS256, PS256 or ES256")
    return found


def _key(entry: Any) -> ProviderKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    key_id, algorithm = entry.get("kid", ""), entry.get("alg", "")
    if not isinstance(key_id, str) or not isinstance(algorithm, str):
        return None
    try:
        key: object = None
        if entry.get("kty") == "RSA":
            key = RSAAlgorithm.from_jwk(entry)
        elif entry.get("kty") == "EC" and entry.get("crv") == "P-256":
            key = ECAlgorithm.from_jwk(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, rsa.RSAPublicKey) and not _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
        return None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return None
    return ProviderKey(key_id, algorithm, key)
