"""What the engine tells its caller, one at a time."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .link import Delivery, Link, ReceivingLink, SendingLink
    from .session import Session


class SaslInit(NamedTuple):
    """Answer with ``connection.sasl_outcome``; nothing more is handed out before."""

    mechanism: str
    response: bytes
    hostname: str


class SaslResponse(NamedTuple):
    """What the peer says to a challenge. Answer as a SaslInit."""

    response: bytes


class Opened(NamedTuple):
    """The peer's open; the engine has answered it."""

    container_id: str
    hostname: str
    properties: dict[Any, Any]


class SessionBegun(NamedTuple):
    session: "Session"


class SessionEnded(NamedTuple):
    """All its links are gone too; each was told by a LinkDetached before."""

    session: "Session"


class LinkAttached(NamedTuple):
    """Answer with ``link.accept`` or ``link.refuse``, now or later."""

    link: "Link"


class LinkDetached(NamedTuple):
    link: "Link"
    error: Any


class Credited(NamedTuple):
    """The peer gave credit, opened its window, or asks to drain (``link.drain``)."""

    link: "SendingLink"


class Delivered(NamedTuple):
    link: "ReceivingLink"
    delivery: "Delivery"


class DeliveredRun(NamedTuple):
    """Whole deliveries with ids from ``first`` on, alike but for their payloads; for a link that takes runs."""

    link: "ReceivingLink"
    first: int
    payloads: list[bytes]
    message_format: int
    settled: bool


class Settled(NamedTuple):
    """The peer's outcome for deliveries of the hub. settled False: it waits for ``link.settle``."""

    link: "SendingLink"
    delivery_ids: tuple[int, ...]
    state: Any
    settled: bool


class Closed(NamedTuple):
    """The peer closed; the engine has answered."""

    error: Any


Event = (
    SaslInit
    | SaslResponse
    | Opened
    | SessionBegun
    | SessionEnded
    | LinkAttached
    | LinkDetached
    | Credited
    | Delivered
    | DeliveredRun
    | Settled
    | Closed
)
