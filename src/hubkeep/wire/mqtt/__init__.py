"""MQTT 3.1.1, the server's side: bytes in, events out, answers back. No I/O, no clock.

Start at ``connection.HubConnection``; ``packets`` knows how each packet looks.
"""

from .connection import HubConnection, MqttBounds, State
from .packets import (
    Connect,
    Disconnect,
    MqttError,
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

__all__ = [
    "Connect",
    "Disconnect",
    "HubConnection",
    "MqttBounds",
    "MqttError",
    "PubAck",
    "Publish",
    "State",
    "Subscribe",
    "Unsubscribe",
    "Will",
    "connack",
    "puback",
    "publish",
    "suback",
    "unsuback",
]
