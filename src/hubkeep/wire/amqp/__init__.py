"""An AMQP 1.0 engine, the server's side: bytes in, events out. No I/O, no clock.

Start at ``connection.HubConnection``. ``session`` and ``link`` hold windows, credit and settlement; ``performatives``
the frames, ``types`` the values, ``messages`` what travels in transfers.
"""

from .connection import Bounds, HubConnection, State
from .events import (
    Closed,
    Credited,
    Delivered,
    DeliveredRun,
    Event,
    LinkAttached,
    LinkDetached,
    Opened,
    SaslInit,
    SaslResponse,
    SessionBegun,
    SessionEnded,
    Settled,
)
from .link import Delivery, Link, LinkState, ReceivingLink, SendingLink, Terminus
from .messages import BATCH_FORMAT, AmqpMessage, decode_message, message, unbatched
from .performatives import ACCEPTED, RELEASED, outcome_name, rejected
from .session import Session
from .transfers import data_section_start
from .types import OWN, AmqpError, Array, Described, Int, Symbol, Timestamp, UByte, UInt, ULong, encode

__all__ = [
    "ACCEPTED",
    "BATCH_FORMAT",
    "OWN",
    "RELEASED",
    "AmqpError",
    "AmqpMessage",
    "Array",
    "Bounds",
    "Closed",
    "Credited",
    "Delivered",
    "DeliveredRun",
    "Delivery",
    "Described",
    "Event",
    "HubConnection",
    "Int",
    "Link",
    "LinkAttached",
    "LinkDetached",
    "LinkState",
    "Opened",
    "ReceivingLink",
    "SaslInit",
    "SaslResponse",
    "SendingLink",
    "Session",
    "SessionBegun",
    "SessionEnded",
    "Settled",
    "State",
    "Symbol",
    "Terminus",
    "Timestamp",
    "UByte",
    "UInt",
    "ULong",
    "data_section_start",
    "decode_message",
    "encode",
    "message",
    "outcome_name",
    "rejected",
    "unbatched",
]
