"""What became of the deliveries of one link, told in as few dispositions as it takes."""

from typing import TYPE_CHECKING, Any

from hubkeep.wire.amqp import ACCEPTED, ReceivingLink

if TYPE_CHECKING:
    from .link import AmqpLink


class Outcomes:
    """Consecutive deliveries that were accepted share one disposition, which goes out at the end of the loop's turn."""

    __slots__ = ("_accepted", "_connection", "_link")

    def __init__(self, connection: "AmqpLink", link: ReceivingLink) -> None:
        self._connection, self._link = connection, link
        self._accepted: tuple[int, int] | None = None  # the first and the last of them

    def accepted(self, first: int, last: int) -> None:
        if self._accepted is not None and first == self._accepted[1] + 1:
            self._accepted = (self._accepted[0], last)
        else:
            self.flush()
            self._accepted = (first, last)
        self._connection.flush_soon(self)

    def refused(self, first: int, last: int, state: Any) -> None:
        self.flush()
        self._link.settle(first, last, state)
        self._connection.flush_soon(self)

    def flush(self) -> None:
        """Hand what was gathered to the engine."""
        if self._accepted is not None:
            first, last = self._accepted
            self._accepted = None
            self._link.settle(first, last, ACCEPTED)
