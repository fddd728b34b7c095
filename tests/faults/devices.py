"""Synchronous raw devices against a served hub, one message at a time: what does the hub answer?"""

import contextlib
import http.client
import socket
import ssl
from typing import NamedTuple

from conversations.mqtt_peer import USER_NAME, connect, packet, publish
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
from hubkeep.wire.amqp.types import decode, encode


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


def ask_twin(hub: Served, device: str, topic: str, body: bytes = b"", within: float = 10) -> tuple[int, bytes]:
    """Status and body of what the hub answers a device that publishes to ``$iothub/twin/{topic}``."""
    with _connected(hub, 8883, within) as sock:
        user_name = USER_NAME.format(host=hub.address, client_id=device)
        sock.sendall(connect(device, user_name, hub.for_load.token(device)))
        assert _exactly(sock, 4) == b"\x20\x02\0\0"
        answers = b"$iothub/twin/res/#"
        sock.sendall(packet(0x82, b"\0\x01" + len(answers).to_bytes(2) + answers + b"\0"))
        assert _exactly(sock, 5) == b"\x90\x03\0\x01\0"
        sock.sendall(publish(f"$iothub/twin/{topic}/?$rid=1", body, qos=0))
        first, length = _exactly(sock, 2)
        assert first == 0x30
        if length & 0x80:
            length = length & 0x7F | _exactly(sock, 1)[0] << 7
        answer = _exactly(sock, length)
        start = 2 + int.from_bytes(answer[:2])
        return int(answer[2:start].split(b"/")[3]), answer[start:]


def send_to_device(hub: Served, device: str) -> Sent:
    """A back end sends a message for ``device``."""
    properties = encode(Described(ULong(0x73), [None, None, f"/devices/{device}/messages/devicebound"]))
    plain = f"\0iothubowner@sas.root.{hub.address.split('.')[0]}\0{hub.token()}".encode()
    return _send_over_amqp(hub, plain, "/messages/devicebound", properties + encode_data_section(b"open valve"))


def send_amqp(hub: Served, device: str, body: bytes, within: float = 10) -> Sent:
    plain = f"\0{device}@sas.{hub.address.split('.')[0]}\0{hub.for_load.token(device)}".encode()
    return _send_over_amqp(hub, plain, f"/devices/{device}/messages/events", encode_data_section(body), within)


def _send_over_amqp(hub: Served, plain: bytes, address: str, message: bytes, within: float = 10) -> Sent:
    target = Described(ULong(0x29), [address])
    with _connected(hub, 5671, within) as sock:
        init = SaslInitFrame(Symbol("PLAIN"), plain, hub.address)
        sock.sendall(SASL_HEADER + frame(0, encode_performative(init), 1))
        sock.sendall(AMQP_HEADER)
        for performative in (
            Open("sender", hub.address),
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
                sock.sendall(frame(0, encode_performative(transfer) + message))
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
