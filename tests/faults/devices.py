"""Synchronous raw devices against a served hub, one message at a time: what does the hub answer?"""

import contextlib
import http.client
import socket
import ssl
from typing import NamedTuple

from conversations.mqtt_peer import USER_NAME, connect, publish
from faults.served import Served
from hubkeep.wire.amqp import Described, Symbol, UInt, ULong
from hubkeep.wire.amqp.messages import encode_data_section
from hubkeep.wire.amqp.performatives import (
    AMQP_HEADER,
    SASL_HEADER,
    Attach,
    Begin,
    Open,
    SaslInitFrame,
    Transfer,
    encode_performative,
    frame,
)
from hubkeep.wire.amqp.types import decode


class Sent(NamedTuple):
    """is_stored: acknowledged. answer: what a refusal looked like."""

    is_stored: bool
    answer: str = ""


def send_mqtt(hub: Served, device: str, body: bytes, within: float = 10) -> Sent:
    with _connected(hub, 8883, within) as sock:
        user_name = USER_NAME.format(host=hub.address, client_id=device)
        sock.sendall(connect(device, user_name, hub.for_load.token(device)))
        if _exactly(sock, 4) != b"\x20\x02\0\0":
            return Sent(False, "no session")
        sock.sendall(publish(f"devices/{device}/messages/events/", body))
        try:
            answer = _exactly(sock, 4)
        except TimeoutError:
            return Sent(False, "silence")
        return Sent(True) if answer == b"\x40\x02\0\x01" else Sent(False, "closed")


def send_https(hub: Served, device: str, body: bytes, within: float = 10) -> Sent:
    connection = http.client.HTTPSConnection(hub.address, 443, context=hub.context(), timeout=within)
    with contextlib.closing(connection):
        path = f"/devices/{device}/messages/events?api-version=2021-04-12"
        connection.request("POST", path, body, {"Authorization": hub.for_load.token(device)})
        answer = connection.getresponse()
        answer.read()
        return Sent(answer.status == 204, f"{answer.status} Retry-After {answer.getheader('Retry-After')}")


def send_amqp(hub: Served, device: str, body: bytes, within: float = 10) -> Sent:
    target = Described(ULong(0x29), [f"/devices/{device}/messages/events"])
    plain = f"\0{device}@sas.{hub.address.split('.')[0]}\0{hub.for_load.token(device)}".encode()
    with _connected(hub, 5671, within) as sock:
        init = SaslInitFrame(Symbol("PLAIN"), plain, hub.address)
        sock.sendall(SASL_HEADER + frame(0, encode_performative(init), 1))
        sock.sendall(AMQP_HEADER)
        for performative in (
            Open(device, hub.address),
            Begin(None, UInt(0), UInt(100), UInt(100)),
            Attach("events", UInt(0), role=False, source=Described(ULong(0x28), []), target=target,
                   initial_delivery_count=UInt(0)),
        ):  # fmt: skip
            sock.sendall(frame(0, encode_performative(performative)))
        transfer = Transfer(UInt(0), UInt(0), b"1", UInt(0), settled=False)
        while True:
            got = _performative(sock)
            if got is None:
                return Sent(False, "closed")
            code, fields = int(got.descriptor), got.value
            if code == 0x13 and len(fields) > 4 and fields[4] is not None:
                sock.sendall(frame(0, encode_performative(transfer) + encode_data_section(body)))
            elif code == 0x15:
                state = fields[4]
                if int(state.descriptor) == 0x24:
                    return Sent(True)
                return Sent(False, f"rejected {state.value[0].value[0]}")
            elif code in {0x16, 0x17, 0x18}:
                return Sent(False, f"ended {fields}")


SENDERS = {"mqtt": send_mqtt, "amqp": send_amqp, "https": send_https}


def _connected(hub: Served, port: int, within: float) -> ssl.SSLSocket:
    raw = socket.create_connection((hub.address, port), within)
    return hub.context().wrap_socket(raw, server_hostname=hub.address)


def _performative(sock: ssl.SSLSocket) -> Described | None:
    while True:
        head = _exactly(sock, 8)
        if len(head) < 8:
            return None
        if head[:4] == b"AMQP":
            continue
        body = _exactly(sock, int.from_bytes(head[:4]) - 8)
        if body:
            described: Described = decode(body, 0, len(body))[0]
            return described


def _exactly(sock: ssl.SSLSocket, size: int) -> bytes:
    """``size`` bytes, fewer when the hub closes. Raises TimeoutError."""
    data = b""
    while len(data) < size:
        try:
            chunk = sock.recv(size - len(data))
        except TimeoutError:
            raise
        except (ConnectionError, ssl.SSLError):
            return data
        if not chunk:
            return data
        data += chunk
    return data
