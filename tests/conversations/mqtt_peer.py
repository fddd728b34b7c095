"""A raw MQTT 3.1.1 client over TLS: sends any bytes, reads packets. Ours, so that it can break every rule."""

import socket
import ssl
import struct
import time
from base64 import b64decode
from pathlib import Path
from typing import Self

from hubkeep.testing import HubInThread
from hubkeep.wire import sas

USER_NAME = "{host}/{client_id}/?api-version=2021-04-12"


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(raw)) + raw


def length(size: int) -> bytes:
    out = bytearray()
    while True:
        size, digit = divmod(size, 128)
        out.append(digit | (0x80 if size else 0))
        if not size:
            return bytes(out)


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + length(len(body)) + body


def connect(
    client_id: str,
    user_name: str | None,
    password: str | bytes | None,
    *,
    clean: bool = True,
    keep_alive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    level: int = 4,
    name: str = "MQTT",
) -> bytes:
    """will: topic, payload, QoS, retain."""
    flags = 2 * clean
    payload = text(client_id)
    if will is not None:
        flags |= 4 | will[2] << 3 | 32 * will[3]
        payload += text(will[0]) + text(will[1])
    if user_name is not None:
        flags |= 0x80
        payload += text(user_name)
    if password is not None:
        flags |= 0x40
        payload += text(password)
    return packet(0x10, text(name) + struct.pack(">BBH", level, flags, keep_alive) + payload)


def publish(topic: str | bytes, body: bytes = b"x", *, qos: int = 1, packet_id: int = 1, flags: int = 0) -> bytes:
    """flags: RETAIN 1, DUP 8."""
    number = struct.pack(">H", packet_id) if qos else b""
    return packet(0x30 | qos << 1 | flags, text(topic) + number + body)


def subscribe(filters: list[tuple[str, int]], packet_id: int = 1) -> bytes:
    return packet(0x82, struct.pack(">H", packet_id) + b"".join(text(name) + bytes((qos,)) for name, qos in filters))


def unsubscribe(filters: list[str], packet_id: int = 1) -> bytes:
    return packet(0xA2, struct.pack(">H", packet_id) + b"".join(map(text, filters)))


PINGREQ, DISCONNECT = b"\xc0\x00", b"\xe0\x00"
PINGRESP = (0xD0, b"")


def tls_socket(hub: HubInThread, port: int = 8883, certificate: Path | None = None, **options: object) -> ssl.SSLSocket:
    """certificate: of the client, with its key and what is between it and its root (PEM)."""
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    if certificate is not None:
        context.load_cert_chain(certificate)
    for name, value in options.items():
        setattr(context, name, value)
    raw = socket.create_connection((hub.address, port), 10)
    return context.wrap_socket(raw, server_hostname=hub.host_name)


class MqttPeer:
    """One connection. ``read`` returns first byte and body of the next packet, None when the hub has closed."""

    def __init__(self, hub: HubInThread, sock: ssl.SSLSocket | None = None) -> None:
        self.hub = hub
        self.sock = sock or tls_socket(hub)
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @classmethod
    def logged_in(cls, hub: HubInThread, device_id: str, **options: object) -> Self:
        """A device of this id, connected; it is registered first."""
        peer = cls(hub)
        peer.send(peer.login(device_id, **options))
        assert peer.read() in {(0x20, b"\0\0"), (0x20, b"\1\0")}
        return peer

    def login(self, device_id: str, **options: object) -> bytes:
        """A good CONNECT."""
        key = b64decode(sas.parse_connection_string(self.hub.create_device(device_id)).parts["SharedAccessKey"])
        token = self.hub.token(f"devices/{device_id}", key=key)
        return connect(device_id, USER_NAME.format(host=self.hub.host_name, client_id=device_id), token, **options)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self, within: float = 30) -> tuple[int, bytes] | None:
        self.sock.settimeout(within)
        head = self._take(1)
        if not head:
            return None
        size = shift = 0
        while True:
            digit = self._take(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return head[0], self._take(size)

    def is_closed(self, within: float = 30) -> bool:
        """Whether the hub closes now, without another packet."""
        return self.read(within) is None

    def is_open(self) -> bool:
        self.send(PINGREQ)
        return self.read() == PINGRESP

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                data = b""
            if not data:
                return b""
            self._held += data
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def eventually(condition: object, within: float = 30) -> bool:
    """Whether ``condition()`` comes true in time."""
    assert callable(condition)
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
