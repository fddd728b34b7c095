"""One AMQP socket: a device, a back end, or many of either. Dispatches links by their address.

Whatever proves identity is asynchronous; while it is under way nothing more of this socket is handled, so that what
stands behind it on the wire is judged by its outcome.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import BadRequest, Forbidden, HubError, LinkStolen, NotFound, ServerBusy, Unauthorized, on_wire
from hubkeep.model import LinkInfo, Principal
from hubkeep.wire import sas
from hubkeep.wire.amqp import (
    AmqpError,
    Closed,
    Credited,
    Delivered,
    HubConnection,
    Link,
    LinkAttached,
    LinkDetached,
    Opened,
    ReceivingLink,
    SaslInit,
    SendingLink,
    Settled,
    State,
    UInt,
)

from ..admission import Ticket
from ..operations import BY_NAME, allows
from .addresses import DeviceAddress, device_address, position, reader_address, segments
from .readers import Reader
from .requests import Cbs, Management
from .telemetry import TelemetryLink

if TYPE_CHECKING:
    from .listener import AmqpListener

log = logging.getLogger(__name__)

MECHANISMS: Final = ("MSSBCBS", "PLAIN", "ANONYMOUS")
_UNREAD: Final = 1024 * 1024  # held while an authentication is under way
_RUNTIME: Final = "com.microsoft:enable-receiver-runtime-metric"
_EPOCH: Final = "com.microsoft:epoch"


class Presence:
    """One identity's links on this connection; what Sessions cuts."""

    __slots__ = ("connection", "links", "principal")

    def __init__(self, connection: "AmqpLink", principal: Principal) -> None:
        self.connection, self.principal = connection, principal
        self.links: set[Link] = set()

    def cut(self, error: HubError) -> None:
        self.connection.drop_presence(self, error)


class AmqpLink(asyncio.Protocol):
    """Made by AmqpListener for each connection, and for each WebSocket tunnel of subprotocol AMQPWSB10."""

    __slots__ = (
        "__weakref__",
        "_authorised",
        "_busy",
        "_cbs",
        "_clogged",
        "_connected_at",
        "_engine",
        "_flush_queued",
        "_management",
        "_paused",
        "_presences",
        "_readers",
        "_telemetry",
        "_ticket",
        "_to_flush",
        "_transport",
        "info",
        "listener",
    )

    def __init__(self, listener: "AmqpListener") -> None:
        self.listener = listener
        now = listener.clock.monotonic()
        self._engine = HubConnection(
            now, container_id=listener.container_id, mechanisms=MECHANISMS, bounds=listener.bounds
        )
        self._connected_at = now
        self._transport: Any = None
        self._ticket: Ticket | None = None
        self.info = LinkInfo("amqp")
        self._authorised: dict[tuple[str, tuple[str, ...]], Principal] = {}
        self._presences: dict[tuple[str, str], Presence] = {}
        self._telemetry: dict[Link, TelemetryLink] = {}
        self._readers: dict[Link, Reader] = {}
        self._cbs, self._management = Cbs(self), Management(self)
        self._busy: asyncio.Task[None] | None = None
        self._paused = self._flush_queued = False
        self._clogged: float | None = None
        self._to_flush: set[TelemetryLink] = set()

    # -- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        tls = transport.get_extra_info("ssl_object")
        self.info = LinkInfo(
            "amqp",
            f"{peer[0]}:{peer[1]}",
            (tls.version() or "") if tls is not None else "",
            websocket=bool(transport.get_extra_info("websocket")),
        )
        self._ticket = self.listener.admission.admit(peer[0])
        if self._ticket is None:
            self._transport.abort()
            return
        self.listener.links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticket is not None:
            self._ticket.gone()
        self.listener.links.discard(self)
        self._transport = None
        if self._busy is not None:
            self._busy.cancel()
        for reader in self._readers.values():
            reader.stop()
            self.listener.readers.forget(reader)
        self._readers.clear()
        for presence in self._presences.values():
            self.listener.sessions.close(presence.principal, presence)
        self._presences.clear()
        self._telemetry.clear()

    def data_received(self, data: bytes) -> None:
        self._engine.receive_data(data, self.listener.clock.monotonic())
        self._pump()

    def pause_writing(self) -> None:
        self._clogged = self.listener.clock.monotonic()

    def resume_writing(self) -> None:
        self._clogged = None
        for reader in tuple(self._readers.values()):
            reader.wake()

    @property
    def is_clogged(self) -> bool:
        """The peer takes its bytes slowly: it is fed no more until it has caught up (L-L13)."""
        return self._clogged is not None

    def flush(self) -> None:
        """Write what the engine has to say."""
        if (out := self._engine.data_to_send()) and self._transport is not None:
            self._transport.write(out)

    def flush_soon(self, telemetry: TelemetryLink) -> None:
        """Gather the dispositions of one turn of the loop."""
        self._to_flush.add(telemetry)
        if not self._flush_queued:
            self._flush_queued = True
            asyncio.get_running_loop().call_soon(self._flush_dispositions)

    def _flush_dispositions(self) -> None:
        self._flush_queued = False
        for telemetry in self._to_flush:
            telemetry.flush()
        self._to_flush.clear()
        self.flush()

    def _pump(self) -> None:
        engine = self._engine
        try:
            while self._busy is None and (event := engine.next_event()) is not None:
                self._handle(event)
        except AmqpError as failure:
            error = BadRequest(reason=f"{failure.condition}: {failure.description}", remedy="the peer breaks AMQP 1.0")
            self.refused(error, "amqp", self._names())
            self.flush()
            self._close()
            return
        self.flush()
        if engine.state is State.CLOSED and self._busy is None:
            self._close()
        elif self._busy is not None and engine.unread > _UNREAD:
            self._pause()
        elif self.listener.log.congested:
            self._pause()
            self.listener.log.when_relieved(self._resume)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        for telemetry in self._telemetry.values():
            telemetry.replenish()
        self.flush()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def close(self, condition: str, description: str) -> None:
        """End the connection with an error."""
        self._engine.close(condition, description)
        self.flush()
        self._close()

    def check(self, monotonic: float) -> None:
        """The listener's call each second: heartbeats, silence, authorisation that is due or has lapsed."""
        if self._transport is None:
            return
        if monotonic >= self._engine.deadline and not self._engine.handle_timer(monotonic):
            self.flush()
            self._close()
            return
        if not self._authorised and monotonic - self._connected_at > self.listener.limits.amqp_authenticate_within:
            self.close("amqp:unauthorized-access", "no authorisation in time")
            return
        if self._clogged is not None and monotonic - self._clogged > self.listener.limits.outgoing_stall:
            self.refused(ServerBusy(reason="the peer does not read what it is sent"), "amqp", self._names())
            self._transport.abort()
            return
        self._drop_lapsed()
        self.flush()

    # -- rights ------------------------------------------------------------------------------------------------------

    def authorised(self, principal: Principal) -> None:
        """A proven credential joins the rights of this connection; a newer one of the same scope replaces it."""
        self._authorised[principal.name, principal.scope] = principal
        if self._ticket is not None:
            self._ticket.authenticated()

    def principal_for(self, operation: str, path: tuple[str, ...]) -> Principal | None:
        """Some live authorisation of this connection that allows ``operation`` on ``path``."""
        row = BY_NAME[operation]
        for principal in self._authorised.values():
            if (
                allows(principal.permissions, row)
                and sas.covers(principal.scope, path)
                and not self.listener.authentication.expired(principal)
            ):
                return principal
        return None

    def _drop_lapsed(self) -> None:
        """Detach what an expired token held open, once its grace is over (L-A17)."""
        expired = self.listener.authentication.expired
        lapsed = [key for key, principal in self._authorised.items() if expired(principal)]
        if not lapsed:
            return
        for key in lapsed:
            del self._authorised[key]
        error = Unauthorized("The authorisation has expired.", reason="the token expired and was not renewed")
        for presence in tuple(self._presences.values()):
            path = presence.principal.scope
            if self.principal_for("events/send", path) is None:
                self.drop_presence(presence, error)
        for link, reader in tuple(self._readers.items()):
            if self.principal_for("events/read", self.listener.reader_path(reader.group, reader.partition)) is None:
                self.end_link(link, error)
        if not self._authorised:
            self.close("amqp:unauthorized-access", "the authorisation has expired")

    def refused(self, error: HubError, operation: str, identity: str) -> None:
        self.listener.refuse(error, self.info, identity=identity or self._names(), operation=operation)

    def _names(self) -> str:
        return next((principal.name for principal in self._authorised.values()), "")

    # -- events of the engine ----------------------------------------------------------------------------------------

    def _handle(self, event: Any) -> None:
        if isinstance(event, Delivered):
            link = event.link
            if (telemetry := self._telemetry.get(link)) is not None:
                telemetry.deliver(event.delivery)
            elif isinstance(link.context, (Cbs, Management)):
                self._wait_for(link.context.request(link, event.delivery))
        elif isinstance(event, Credited):
            if (reader := self._readers.get(event.link)) is not None:
                reader.wake()
            elif isinstance(event.link.context, (Cbs, Management)):
                event.link.context.credited(event.link)
        elif isinstance(event, Settled):
            if not event.settled:
                event.link.settle(event.delivery_ids, event.state)
            if (reader := self._readers.get(event.link)) is not None:
                reader.wake()
        elif isinstance(event, LinkAttached):
            self._wait_for(self._attach(event.link))
        elif isinstance(event, LinkDetached):
            self._forget(event.link)
        elif isinstance(event, SaslInit):
            self._wait_for(self._sasl(event))
        elif isinstance(event, Opened):
            self.info = LinkInfo("amqp", self.info.peer, self.info.tls, event.container_id[:256], self.info.websocket)
        elif isinstance(event, Closed):
            self.flush()
            self._close()

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` on a task; nothing more of this socket is handled until it ends."""
        self._busy = asyncio.get_running_loop().create_task(self._finish(work))

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("an AMQP event failed")
            self.close("amqp:internal-error", "internal error")
            return
        finally:
            self._busy = None
        if self._transport is not None:
            self._resume()
            self._pump()

    async def _sasl(self, event: SaslInit) -> None:
        ok = event.mechanism in {"ANONYMOUS", "MSSBCBS"}
        if event.mechanism == "PLAIN":
            parts = event.response.split(b"\0")
            if len(parts) == 3:
                user, password = (part.decode(errors="replace") for part in parts[1:])
                try:
                    self.authorised(await self.listener.authentication.plain(user, password, self.info))
                    ok = True
                except HubError as error:
                    self.refused(error, "sasl", user)
        elif not ok:
            self.refused(Unauthorized(reason=f"SASL mechanism {event.mechanism[:64]!r} is not offered"), "sasl", "")
        self._engine.sasl_outcome(ok=ok)

    async def _attach(self, link: Link) -> None:
        address = link.source.address if link.is_sender else link.target.address
        try:
            await self._attach_to(link, segments(address))
        except HubError as error:
            self.refused(error, "attach", "")
            info = {"com.microsoft:tracking-id": error.tracking_id, "com.microsoft:error-code": on_wire(error).number}
            text = f"{error} Tracking id {error.tracking_id}"
            link.refuse(on_wire(error).amqp, text, info)

    async def _attach_to(self, link: Link, path: tuple[str, ...]) -> None:
        listener = self.listener
        words = tuple(each.lower() for each in path)
        if words in {("$cbs",), ("$management",)}:
            self._attach_node(link, self._cbs if words == ("$cbs",) else self._management)
            return
        if (device := device_address(path)) is not None:
            await self._attach_device(link, device)
            return
        if words[:3] == ("messages", "events", "$management") and link.is_sender:
            self._redirect(link)
            return
        entity = listener.entity_of(path)
        if entity is None:
            raise self._unknown_or_unauthorised("There is nothing at this address.")
        if words[entity:] == ("$management",):
            self._attach_node(link, self._management)
        elif (reader := reader_address(path[entity:])) is not None and isinstance(link, SendingLink):
            await self._attach_reader(link, reader.consumer_group, reader.partition)
        elif not link.is_sender:
            raise Forbidden(reason="a producer on the event endpoint: it is for reading only")
        else:
            raise self._unknown_or_unauthorised("There is nothing at this address.")

    def _unknown_or_unauthorised(self, text: str) -> HubError:
        """What exists is told only to those who have proved who they are (L-A15)."""
        return NotFound(text) if self._authorised else Unauthorized(reason="a link before any authorisation")

    def _attach_node(self, link: Link, node: Cbs | Management) -> None:
        assert isinstance(link, (SendingLink, ReceivingLink))
        link.context = node
        node.attach(link)

    async def _attach_device(self, link: Link, device: DeviceAddress) -> None:
        path: tuple[str, ...] = ("devices", device.device_id)
        if device.module_id:
            path = (*path, "modules", device.module_id)
        principal = self.principal_for("events/send", path)
        if principal is None:
            raise Unauthorized(
                reason=f"no token on this connection allows {'/'.join(path)}",
                remedy="put a token for this identity on $cbs first",
            )
        if principal.device_id and (principal.device_id, principal.module_id) != (device.device_id, device.module_id):
            raise Unauthorized(reason=f"the token is for {principal.name}, the link for {'/'.join(path)}")
        if device.feature != "messages/events" or not isinstance(link, ReceivingLink):
            raise NotFound(reason=f"{device.feature} is not offered over AMQP")
        if not principal.device_id:
            principal = await self.listener.authentication.acting_as(principal, device.device_id, device.module_id)
        model_id = link.properties.get("com.microsoft:model-id")
        sender = self.listener.to_cloud.sender(principal, model_id if isinstance(model_id, str) else None)
        key = (device.device_id, device.module_id)
        presence = self._presences.get(key)
        if presence is None:
            presence = self._presences[key] = Presence(self, principal)
            self.listener.sessions.open(principal, presence, "amqp")
        presence.links.add(link)
        telemetry = self._telemetry[link] = TelemetryLink(self, link, sender)
        telemetry.start()

    async def _attach_reader(self, link: SendingLink, group: str, partition_id: str) -> None:
        listener = self.listener
        path = listener.reader_path(group, partition_id)
        principal = self.principal_for("events/read", path)
        if principal is None:
            raise Unauthorized(
                reason=f"no token on this connection allows reading {'/'.join(path)}",
                remedy="sign for the event endpoint with a policy that holds ServiceConnect",
            )
        known = listener.consumer_group(group)
        partition = listener.partition(partition_id)
        start = position(link.source.filters)
        epoch = link.properties.get(_EPOCH)
        desired = link.desired_capabilities
        reader = Reader(
            self,
            link,
            listener.log,
            group=known,
            partition=partition,
            epoch=int(epoch) if isinstance(epoch, int) else None,
            tell_runtime=desired == _RUNTIME or (isinstance(desired, list) and _RUNTIME in desired),
        )
        listener.readers.admit(reader)
        self._readers[link] = reader
        try:
            await reader.start(start)
        except HubError:
            self._forget(link)
            raise
        link.accept()
        reader.wake()

    def _redirect(self, link: Link) -> None:
        """Clients that hold only a hub's connection string learn here where its events are (5.8)."""
        if self.principal_for("events/manage", ("messages", "events")) is None:
            raise Unauthorized(reason="no authorisation for messages/events")
        host, port = self._engine.hostname or self.listener.host_name, 5671
        info = {
            "hostname": host,
            "network-host": host,
            "port": UInt(port),
            "address": f"amqps://{host}:{port}/{self.listener.events_name}/$management",
        }
        link.refuse("amqp:link:redirect", "the events are at another address", info)

    # -- links that end ----------------------------------------------------------------------------------------------

    def end_link(self, link: Link, error: HubError) -> None:
        """Detach one link with ``error``."""
        self.refused(error, "link", "")
        self._forget(link)
        row = on_wire(error)
        info = {"com.microsoft:tracking-id": error.tracking_id}
        link.detach(row.amqp, f"{error} Tracking id {error.tracking_id}", info)
        self.flush()

    def drop_presence(self, presence: Presence, error: HubError) -> None:
        """Detach all links of one identity; a connection with nobody left on it is closed."""
        key = (presence.principal.device_id, presence.principal.module_id)
        if self._presences.pop(key, None) is None:
            return
        self.listener.sessions.close(presence.principal, presence)
        for link in tuple(presence.links):
            self.end_link(link, error)
        if not isinstance(error, LinkStolen):
            for name in [each for each, of in self._authorised.items() if (of.device_id, of.module_id) == key]:
                del self._authorised[name]
        if not self._authorised and not self._presences:
            self.close(on_wire(error).amqp, str(error))

    def _forget(self, link: Link) -> None:
        if (reader := self._readers.pop(link, None)) is not None:
            reader.stop()
            self.listener.readers.forget(reader)
        self._telemetry.pop(link, None)
        if isinstance(link.context, (Cbs, Management)):
            link.context.detached(link)
        for key, presence in tuple(self._presences.items()):
            presence.links.discard(link)
            if not presence.links:
                del self._presences[key]
                self.listener.sessions.close(presence.principal, presence)
