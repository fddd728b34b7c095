"""What a link leads to. One subclass for each kind of address; ``attaching.py`` says which address leads where."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from hubkeep.errors import HubError
from hubkeep.model import Principal
from hubkeep.wire.amqp import DeliveredRun, Delivery, Link, ReceivingLink, SendingLink, Settled

if TYPE_CHECKING:
    from .link import AmqpLink


class LinkEndpoint:
    """Told by its connection what happens on its link (or links: a request node has several). Override what concerns.

    After ``detached`` nothing more is told. All calls are made on the event loop and must not block it; what they make
    the engine say goes out when they return, or at ``connection.flush()``.
    """

    __slots__ = ()

    settles = False  # whether it answers outcomes that the peer left open itself

    async def start(self) -> None:
        """Accept the link, give credit. Raises HubError: then the link is refused with it."""

    def delivered(self, link: ReceivingLink, delivery: Delivery) -> Coroutine[Any, Any, None] | None:
        """A message from the peer. A coroutine is run to its end before anything more of this socket is handled."""

    def delivered_run(self, run: DeliveredRun) -> None:
        """Messages that came together, on a link that takes runs."""

    def credited(self, link: SendingLink) -> None:
        """The peer gave credit, opened its window, or asks to drain (then call ``link.drained`` when out of work)."""

    def settled(self, event: Settled) -> None:
        """The peer's outcome for what was sent. Unless ``event.settled``, the connection settles in return, or what
        says that it ``settles`` does, once it has carried the outcome out."""

    def writable(self) -> None:
        """The peer has taken what waited to go out."""

    def relieved(self) -> None:
        """The event log takes again what it could not (``listener.log.congested``)."""

    def detached(self, link: Link) -> None:
        """The link is gone, whoever ended it."""


class Presence:
    """One identity's links on this connection; what Sessions cuts."""

    __slots__ = ("connection", "links", "principal")

    def __init__(self, connection: "AmqpLink", principal: Principal) -> None:
        self.connection, self.principal = connection, principal
        self.links: set[Link] = set()

    def cut(self, error: HubError) -> None:
        self.connection.drop_presence(self, error)


class Attached(NamedTuple):
    """A link in use. operation, path: the right that it needs as long as it lives; empty for none."""

    endpoint: LinkEndpoint
    operation: str = ""
    path: tuple[str, ...] = ()
    presence: Presence | None = None
