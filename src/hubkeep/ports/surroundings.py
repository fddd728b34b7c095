"""What the hub is surrounded by: clock, sealing key, the network outside."""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa


class Clock(Protocol):
    """Time as a parameter: tests move it."""

    def now(self) -> float:
        """Unix seconds (wall clock): tokens, expiry, stamps."""

    def monotonic(self) -> float:
        """Seconds that never jump: keep-alive, time-outs."""


class Seal(Protocol):
    """Keys at rest."""

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypt and authenticate. ``context`` names what the secret belongs to; it must be the same on opening."""

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """The secret. Raises StoreUnavailable when the seal is broken or belongs to another key or context."""


class SealedRecords(Protocol):
    """Everything of one store that is sealed."""

    async def reseal(self, prefix: bytes) -> int:
        """Seal anew what does not begin with ``prefix``; how much that was. May end in the middle and be called again.

        Raises StoreUnavailable.
        """

    async def holds(self, prefix: bytes) -> bool:
        """Whether anything, of whatever kind, begins with ``prefix``. Raises StoreUnavailable."""


class Destination(NamedTuple):
    """Where a URL leads. addresses: as text, checked; a connection goes to one of these and to no other."""

    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...]


class Egress(Protocol):
    """Whom the hub may reach by itself."""

    async def destination(self, url: str) -> Destination:
        """Look up and check an http or https URL. Raises EgressRefused, with what would open it as remedy."""


class FetchFailed(Exception):
    """What was to be fetched did not come. Its text says why, for the operator. status: that of an answer; else 0."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Fetch(Protocol):
    """A document from an address that an administrator named; bounded, without redirects, where egress lets it."""

    async def __call__(
        self,
        url: str,
        *,
        at_most: int,
        within: float,
        body: bytes = b"",
        kind: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """GET, or POST of ``body`` of the media type ``kind``. headers: more. Raises FetchFailed, EgressRefused."""


class Answered(NamedTuple):
    status: int
    body: bytes


class Ask(Protocol):
    """One request to a host that an administrator named; bounded, without redirects, where egress lets it."""

    async def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, at_most: int, within: float
    ) -> Answered:
        """Any status is an answer. Raises FetchFailed, EgressRefused."""


PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


KEY_ALGORITHMS: Final = ("P-256", "P-384", "RSA-3072")


class SigningKeys(Protocol):
    """Where the private keys of the hub's own authorities lie. A key may refuse to come out: it signs where it is."""

    async def make(self, name: str, algorithm: str, place: str) -> tuple[str, PrivateKey]:
        """A new key for the authority of this name: its place, and the key. algorithm: one of ``KEY_ALGORITHMS``.

        Raises KeyUnavailable, BadRequest for a place that cannot be.
        """

    async def open(self, name: str, place: str) -> PrivateKey:
        """Raises KeyUnavailable."""

    async def remove(self, name: str, place: str) -> None:
        """A key that cannot come out of its token stays there."""
