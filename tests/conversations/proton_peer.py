"""Qpid Proton, an independent AMQP implementation, as a client of the hub over TLS."""

import contextlib
from base64 import b64decode
from pathlib import Path
from typing import Any

from proton import Link, Message, SSLDomain, Timeout
from proton.reactor import LinkOption
from proton.utils import BlockingConnection, BlockingReceiver

from hubkeep.testing import HubInThread
from hubkeep.wire import sas


def device_connection(hub: HubInThread, device_id: str) -> BlockingConnection:
    """A device, registered first, that logs in by SASL PLAIN."""
    key = b64decode(sas.parse_connection_string(hub.create_device(device_id)).parts["SharedAccessKey"])
    return _connection(hub, f"{device_id}@sas.hub", hub.token(f"devices/{device_id}", key=key))


def service_connection(hub: HubInThread, policy: str = "service") -> BlockingConnection:
    return _connection(hub, f"{policy}@sas.root.hub", hub.token(policy=policy))


def certificate_connection(hub: HubInThread, certificate: Path) -> BlockingConnection:
    """A device that shows a certificate (PEM, its key in the same file) and logs in by SASL EXTERNAL."""
    domain = _trusting(hub)
    domain.set_credentials(str(certificate), str(certificate), None)
    return BlockingConnection(
        f"amqps://{hub.host_name}:5671", timeout=10, ssl_domain=domain, allowed_mechs="EXTERNAL", sasl_enabled=True
    )


def _trusting(hub: HubInThread) -> SSLDomain:
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(hub.trust_bundle))
    domain.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
    return domain


def _connection(hub: HubInThread, user: str, password: str) -> BlockingConnection:
    return BlockingConnection(
        f"amqps://{hub.host_name}:5671",
        timeout=10,
        ssl_domain=_trusting(hub),
        user=user,
        password=password,
        allowed_mechs="PLAIN",
        sasl_enabled=True,
    )


class SettleSecond(LinkOption):
    """The receiver waits for the hub's own settlement, as .NET does."""

    def apply(self, link: Link) -> None:
        link.rcv_settle_mode = Link.RCV_SECOND


class PreSettled(LinkOption):
    def apply(self, link: Link) -> None:
        link.snd_settle_mode = Link.SND_SETTLED


def pump(connection: BlockingConnection) -> None:
    """Write what Proton holds, read what has come."""
    with contextlib.suppress(Timeout):
        connection.wait(lambda: False, timeout=0.1)


def bodies(receiver: BlockingReceiver, count: int) -> list[bytes]:
    return [Received(receiver).body for _ in range(count)]


class Received:
    """A delivery that is not settled yet."""

    def __init__(self, receiver: BlockingReceiver, within: float = 10) -> None:
        self.connection = receiver.connection
        self.message: Message = receiver.receive(timeout=within)
        self.body = bytes(self.message.body)
        # empty where the hub settled it already
        self.delivery: Any = next(reversed(receiver.fetcher.unsettled), None)

    @property
    def tag(self) -> bytes:
        """Proton's own accessor wants text."""
        from cproton import ffi, lib

        raw = lib.pn_delivery_tag(self.delivery._impl)
        return bytes(ffi.unpack(raw.start, raw.size))

    def settle(self, state: int, *, settled: bool = True) -> None:
        self.delivery.update(state)
        if settled:
            self.delivery.settle()
        pump(self.connection)

    def wait_settled(self) -> Any:
        """The hub's own outcome."""
        self.connection.wait(lambda: self.delivery.settled, timeout=10)
        return self.delivery.remote_state
