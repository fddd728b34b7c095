"""Twins and methods need two links of one identity: the peer's sender and its receiver (device-protocols 4.5)."""

from typing import TYPE_CHECKING, Any, TypeVar

from hubkeep.wire.amqp import Link

from .endpoint import Presence

if TYPE_CHECKING:
    from .link import AmqpLink

_T = TypeVar("_T")
_CORRELATION = "com.microsoft:channel-correlation-id"


def other_half(presence: Presence | None, link: Link, kind: type[_T]) -> _T | None:
    """The endpoint of the ``kind`` that goes with ``link``: of its identity and session; with its id, if it has one.

    The id alone tells nothing: clients send it on links of other features as well.
    """
    found: list[tuple[Link, Any]] = [
        (each, each.context)
        for each in (presence.links if presence is not None else ())
        if isinstance(each.context, kind) and each.session is link.session
    ]
    mine = link.properties.get(_CORRELATION)
    same = [context for each, context in found if each.properties.get(_CORRELATION) == mine]
    return next(iter(same or [context for _, context in found]), None)


def presence_with(connection: "AmqpLink", link: Link, endpoint: object) -> Presence | None:
    """The presence that ``link`` belongs to now; from here on ``endpoint`` is found through it."""
    link.context = endpoint
    return connection.presence_of_link(link)
