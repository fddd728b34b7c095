"""Binding the listeners, and seeing off who is still connected when the hub stops."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import resource
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from hubkeep.connection import transports
from hubkeep.connection.admission import Admission
from hubkeep.connection.amqp.link import AmqpLink
from hubkeep.connection.doors import Door
from hubkeep.connection.https.connection import HttpsConnection
from hubkeep.connection.mqtt.link import MqttLink
from hubkeep.connection.turns import Turns
from hubkeep.limits import OPEN_CONNECTIONS_SHARE
from hubkeep.model import Networks, Surface, why_shut_out
from hubkeep.ports import Clock, RecordRefusal
from hubkeep.settings import Settings, SettingsError

from .failures import CannotListen
from .hub import Hub

_FAREWELL: Final = 0.5  # seconds for peers to close their side when the hub stops
_GOES_ON_WITHOUT: Final = "dev"  # the mode that goes on without a port that may not be bound


async def see_off(connections: Callable[[], Sequence[MqttLink | AmqpLink | HttpsConnection]]) -> None:
    """They were closed: peers that do not end TLS in time, as idle HTTP clients, are cut off."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _FAREWELL
    while connections() and loop.time() < deadline:  # noqa: ASYNC110  # once in a hub's life; no event per connection
        await asyncio.sleep(0.01)
    for connection in connections():
        connection.abort()
    await asyncio.sleep(0)  # transports close their sockets in the loop's next turn


def doors(
    settings: Settings, refuse: RecordRefusal, clock: Clock, locked_out: Callable[[str], bool]
) -> dict[str, Door]:
    """Of each listener by its kind. Raises SettingsError: the operator of this machine would be shut out of the API."""
    listening = settings.listeners
    surfaces: dict[str, Surface] = {"https": "https", "mqtt": "mqtt", "amqp": "amqp", "plain_amqp": "amqp"}
    made = {}
    for kind, surface in surfaces.items():
        wanted = listening.networks.get(surface)
        networks = Networks(allow=wanted.allow, deny=wanted.deny) if wanted is not None else Networks()
        made[kind] = Door(networks, surface, refuse, clock, locked_out)
        if kind == "https" and not listening.shut_out_operator:
            own = _own_address(listening.address)
            if why := why_shut_out(networks, own):
                raise SettingsError(
                    f"listeners.networks.https: the commands of this machine come from {own}, and {why}; "
                    "allow it, or set listeners.shut_out_operator"
                )
    return made


def _own_address(listening: str) -> str:
    """Whence commands on this machine come: loopback dials from loopback, another address from itself."""
    try:
        address = ipaddress.ip_address(listening)
    except ValueError:
        return "127.0.0.1"
    if address.is_loopback or address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return listening


async def listen(
    hub: Hub,
    up: contextlib.AsyncExitStack,
    kind: str,
    port: int,
    factory: Callable[[], asyncio.BaseProtocol],
    context: Any,
    door: Door,
    admission: Admission,
    turns: Turns,
    handshake_within: float,
) -> None:
    settings = hub.settings.listeners
    listener = functools.partial(
        transports.listen,
        factory,
        context=context,
        door=door,
        admission=admission,
        turns=turns,
        backlog=settings.backlog,
        handshake_within=handshake_within,
    )
    try:
        server = await listener(settings.address, port)
    except OSError as error:
        failure = _why_not(kind, settings.address, port, error)
        if hub.settings.mode != _GOES_ON_WITHOUT:
            raise failure from None
        hub.missing[kind] = f"{failure.cause}: {failure.cure}"
        if kind != "https":
            return
        # the commands need it; programs with the port built in go without
        try:
            server = await listener(settings.address, 0)
        except OSError:
            raise failure from None
    hub.ports[kind] = server.sockets[0].getsockname()[1]
    up.callback(server.close)


async def listen_metrics(hub: Hub, up: contextlib.AsyncExitStack, port: int, factory: Any) -> None:
    """Metrics are no reason to stop: a second hub on the machine takes any free port instead."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(factory, "127.0.0.1", port)
    except OSError:
        server = await loop.create_server(factory, "127.0.0.1", 0)
    hub.ports["metrics"] = server.sockets[0].getsockname()[1]
    up.callback(server.close)


def _why_not(kind: str, address: str, port: int, error: OSError) -> CannotListen:
    names = {"https": "HTTPS and WebSockets", "mqtt": "MQTT", "amqp": "AMQP", "plain_amqp": "AMQP without TLS"}
    option = f"--{kind.replace('_', '-')}-port"
    if isinstance(error, PermissionError):
        cure = (
            f"use another port ({option} 0 takes any free one), or let this Python bind it: "
            "sudo sysctl net.ipv4.ip_unprivileged_port_start=443"
        )
        return CannotListen(f"{names[kind]}: port {port} may only be bound by root", cure)
    cure = f"use another port ({option} 0), or another address (--listen 127.0.0.2 --host-name 127.0.0.2)"
    if isinstance(error, socket.gaierror) or error.errno in {None, errno.EADDRNOTAVAIL}:
        return CannotListen(f"{names[kind]}: {address} is no address of this machine", "name one with --listen")
    return CannotListen(f"{names[kind]}: port {port}: {os.strerror(error.errno)}", cure)


def raise_descriptor_limit() -> None:
    """The soft limit goes to the hard one: every connection is a descriptor (architecture, section 8)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft * OPEN_CONNECTIONS_SHARE.value // 100
