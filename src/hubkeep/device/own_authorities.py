"""The hub's own certificate authorities: a root, which may stay elsewhere, and those that sign for devices (4.3).

They stand in the same list as registered ones. A root vouches for those below it alone; devices are let in by the
issuing ones, each trusted by itself, so that a stolen root key opens nothing here.
"""

import asyncio
import contextlib
import datetime as dt
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.errors import BadRequest, KeyUnavailable
from hubkeep.limits import AUTHORITY_BYTES, CERTIFICATE_DAYS_MAX
from hubkeep.model import Authority
from hubkeep.ports import KEY_ALGORITHMS, Clock, PrivateKey, SigningKeys

from . import profiles
from .authorities import Authorities, check_authority, fingerprint
from .requests import key_fingerprint

FIRST: Final = "hubkeep-devices"  # made with the first certificate, unless there is another
FILE: Final = "file"
_T = TypeVar("_T")
_NAME_LENGTH: Final = 64
_LONGEST_CHAIN: Final = 2  # above an issuing authority: clients have room for three certificates


class Waiting(NamedTuple):
    """An authority that waits for its certificate, and the request (PEM) that a root elsewhere signs."""

    authority: Authority
    request: str


class OwnAuthorities:
    """hub_name: stands in the names of what is made. Start at ``create``."""

    def __init__(self, authorities: Authorities, keys: SigningKeys, clock: Clock, hub_name: str) -> None:
        self._authorities, self._keys, self._clock, self._hub_name = authorities, keys, clock, hub_name
        self._opened: dict[str, PrivateKey] = {}
        self.failing: dict[str, str] = {}  # authority to why its key does not sign now
        self._first = asyncio.Lock()

    async def ensure(self) -> Authority:
        """The one that signs where none is named: the newest; made with a root if there is none. Raises HubError."""
        async with self._first:
            if found := self.newest():
                return found
            return await self.create(FIRST)

    def newest(self) -> Authority | None:
        """The one that signs where none is named."""
        return max(self._authorities.own(), key=lambda each: each.created, default=None)

    async def create(
        self, name: str, *, root: str = "", algorithm: str = "P-256", place: str = FILE, days: float = 0.0
    ) -> Authority:
        """An issuing authority below ``root``, an own one; not named: below one made beside it, ``NAME-root``.

        place: ``file``, or a PKCS#11 URI. days: how long certificates last that it issues; 0: the default.
        Raises BadRequest, AuthorityExists, QuotaExceeded, KeyUnavailable, NotFound.
        """
        check_days(days)
        self._authorities.check_free(name)
        above = self._authorities.get(root) if root else await self._make_root(f"{name}-root", algorithm, place)
        if above.kind != "root" or above.state == "revoked" or not above.key:
            raise BadRequest("The root must be one of the hub's own, not revoked, and its key here.")
        root_key, certificate_above = await self.key_of(above), x509.load_der_x509_certificate(above.certificate)
        place, key = await self._make_key(name, algorithm, place)
        now = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
        public_key, subject = key.public_key(), self._subject(name)
        certificate = await signing(
            above,
            lambda: profiles.issuing_certificate(public_key, subject, certificate_above, root_key, now),
        )
        return await self._add(name, "issuing", "active", certificate, (above.certificate,), place, days)

    async def request(self, name: str, *, algorithm: str = "P-256", place: str = FILE, days: float = 0.0) -> Waiting:
        """An issuing authority whose root is elsewhere: a key here, and the request for the root to sign."""
        check_days(days)
        self._authorities.check_free(name)
        place, key = await self._make_key(name, algorithm, place)
        authority = await self._add(name, "issuing", "waiting", None, (), place, days)
        return Waiting(authority, await self._request_of(authority, key))

    async def request_of(self, name: str) -> str:
        """The request (PEM) of an authority of the hub's own. Raises NotFound, BadRequest, KeyUnavailable."""
        authority = self._authorities.get(name)
        if authority.kind != "issuing":
            raise BadRequest("Only an issuing authority of the hub's own asks for a certificate.")
        return await self._request_of(authority, await self.key_of(authority))

    async def install(self, name: str, chain: bytes) -> Authority:
        """The certificate that a root signed for a waiting authority, with those above it (PEM).

        Raises NotFound, BadRequest.
        """
        async with self._authorities.changing:
            found = self._authorities.get(name)
            if found.state != "waiting":
                raise BadRequest("This authority does not wait for a certificate.")
            certificates = read_chain(chain)
            check_authority(certificates[0], self._clock.now())
            key = (await self.key_of(found)).public_key()
            if key_fingerprint(certificates[0].public_key()) != key_fingerprint(key):
                raise BadRequest("The first certificate is not for the key of this authority.")
            der = [each.public_bytes(Encoding.DER) for each in certificates]
            return await self._authorities.put(
                msgspec.structs.replace(
                    found, certificate=der[0], sha256=fingerprint(der[0]), chain=tuple(der[1:]), state="active"
                )
            )

    async def key_of(self, authority: Authority) -> PrivateKey:
        """Raises KeyUnavailable."""
        if (known := self._opened.get(authority.name)) is not None:
            return known
        if not authority.key:
            raise KeyUnavailable(reason=f"the key of {authority.name!r} is not with this hub")
        key = await self._keys.open(authority.name, authority.key)
        self._opened[authority.name] = key
        return key

    async def removed(self, authority: Authority) -> None:
        """Its key is of no use any more."""
        self._opened.pop(authority.name, None)
        if authority.key:
            with contextlib.suppress(KeyUnavailable):
                await self._keys.remove(authority.name, authority.key)

    async def probe(self) -> None:
        """Let every key in a token sign: one that was pulled out is told before a device needs it."""
        for each in self._authorities.own():
            if each.key == FILE:
                continue
            try:
                key = await self.key_of(each)
                await signing(each, functools.partial(profiles.issuing_request, key, "probe"))
                self.failing.pop(each.name, None)
            except KeyUnavailable as error:
                self.failing[each.name] = error.reason

    async def _make_root(self, name: str, algorithm: str, place: str) -> Authority:
        self._authorities.check_free(name)
        place, key = await self._make_key(name, algorithm, place)
        now = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC)
        subject = self._subject(name)
        holder = Authority(
            name=name, certificate=b"", sha256="", state="staged", etag="", created=0, updated=0, key=place
        )
        certificate = await signing(holder, lambda: profiles.root_certificate(key, subject, now))
        return await self._add(name, "root", "staged", certificate, (), place, 0.0)

    async def _make_key(self, name: str, algorithm: str, place: str) -> tuple[str, PrivateKey]:
        if algorithm not in KEY_ALGORITHMS:
            raise BadRequest(f"The algorithm is one of: {', '.join(KEY_ALGORITHMS)}.")
        place, key = await self._keys.make(name, algorithm, place)
        self._opened[name] = key
        return place, key

    async def _request_of(self, authority: Authority, key: PrivateKey) -> str:
        subject = self._subject(authority.name)
        request = await signing(authority, lambda: profiles.issuing_request(key, subject))
        return request.public_bytes(Encoding.PEM).decode()

    async def _add(
        self,
        name: str,
        kind: str,
        state: str,
        certificate: x509.Certificate | None,
        chain: Sequence[bytes],
        place: str,
        days: float,
    ) -> Authority:
        der = certificate.public_bytes(Encoding.DER) if certificate is not None else b""
        now = self._clock.now()
        async with self._authorities.changing:
            self._authorities.check_free(name)
            return await self._authorities.put(
                Authority(
                    name=name,
                    certificate=der,
                    sha256=fingerprint(der) if der else f"waiting/{name}",
                    state=state,  # type: ignore[arg-type]  # ours
                    etag="",
                    created=now,
                    updated=now,
                    kind=kind,  # type: ignore[arg-type]  # ours
                    chain=tuple(chain),
                    key=place,
                    days=days,
                )
            )

    def _subject(self, name: str) -> str:
        return f"{name} of {self._hub_name}"[:_NAME_LENGTH]


async def signing(authority: Authority, sign: Callable[[], _T]) -> _T:
    """A token may take its time: it signs on a thread. Raises KeyUnavailable."""
    try:
        return sign() if authority.key == FILE else await asyncio.to_thread(sign)
    except (UnsupportedAlgorithm, OSError) as error:
        raise KeyUnavailable(reason=f"the key of {authority.name!r} does not sign: {error}") from None


def read_chain(content: bytes) -> list[x509.Certificate]:
    """PEM: an issuing authority's certificate and those above it, each signed by the next. Raises BadRequest."""
    if len(content) > AUTHORITY_BYTES.value * (_LONGEST_CHAIN + 1):
        raise BadRequest("The chain is too long.")
    try:
        certificates = x509.load_pem_x509_certificates(content)
        for lower, upper in itertools.pairwise(certificates):
            lower.verify_directly_issued_by(upper)
    except InvalidSignature:
        raise BadRequest("A certificate of the chain is not signed by the next one.") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension):
        raise BadRequest("The chain cannot be read: PEM, the authority's own certificate first.") from None
    if len(certificates) > _LONGEST_CHAIN + 1:
        raise BadRequest("At most two certificates stand above an issuing authority.")
    return certificates


def check_days(days: float) -> None:
    """0 means the default. Raises BadRequest."""
    if days and not 1 / 24 <= days <= CERTIFICATE_DAYS_MAX.value:
        raise BadRequest(f"Certificates last an hour to {CERTIFICATE_DAYS_MAX.value} days.")
