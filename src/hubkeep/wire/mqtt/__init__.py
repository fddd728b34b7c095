"""MQTT 3.1.1 and 5, the server's side: bytes in, events out, answers back. No I/O, no clock.

Start at ``connection.HubConnection``; ``packets`` knows how each packet looks, ``packets5`` where MQTT 5 differs.
"""

from . import packets5
from .connection import HubConnection, MqttBounds, State
from .fields import MqttError
from .packets import (
    HAS_PROPERTIES,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
    connack,
    puback,
    publish,
    suback,
    unsuback,
)
from .properties import NO_PROPERTIES, Properties

__all__ = [
    "HAS_PROPERTIES",
    "NO_PROPERTIES",
    "Connect",
    "Disconnect",
    "HubConnection",
    "MqttBounds",
    "MqttError",
    "Properties",
    "PubAck",
    "Publish",
    "State",
    "Subscribe",
    "Unsubscribe",
    "Will",
    "connack",
    "packets5",
    "puback",
    "publish",
    "suback",
    "unsuback",
]
