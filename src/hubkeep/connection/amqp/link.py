"""One AMQP socket: a device, a back end, or many of either. Links are dispatched by ``attaching.py``.

Whatever proves identity is asynchronous; while it is under way nothing more of this socket is handled, so that what
stands behind it on the wire is judged by its outcome.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hubkeep.errors import BadRequest, HubError, LinkStolen, ServerBusy, Unauthorized, on_wire
from hubkeep.limits import REGISTRATION_LINK
from hubkeep.model import LinkInfo, Principal
from hubkeep.wire.amqp import (
    AmqpError,
    Closed,
    Credited,
    Delivered,
    DeliveredRun,
    HubConnection,
    Link,
    LinkAttached,
    LinkDetached,
    Opened,
    SaslInit,
    SaslResponse,
    Settled,
    State,
)
from hubkeep.wire.sas import percent_decoded

from ..admission import Ticket
from ..device_registrations import registrant_name
from ..peers import is_out_of_measure, link_info
from . import tpm_exchange
from .addresses import identity_name
from .attaching import attach
from .endpoint import Attached, LinkEndpoint, Presence
from .outcomes import Outcomes
from .registering import OPERATION, RegistrationNode
from .requests import Cbs, Management, RequestNode
from .rights import Rights

if TYPE_CHECKING:
    from .listener import AmqpListener

log = logging.getLogger(__name__)

MECHANISMS: Final = ("MSSBCBS", "PLAIN", "ANONYMOUS", tpm_exchange.MECHANISM)
_UNREAD: Final = 1024 * 1024  # held while an authentication is under way


class AmqpLink(asyncio.Protocol):
    """Made by AmqpListener for each connection, and for each WebSocket tunnel of subprotocol AMQPWSB10."""

    __slots__ = (
        "__weakref__",
        "_attached",
        "_awaits_relief",
        "_busy",
        "_clogged",
        "_clogged_bytes",
        "_connected_at",
        "_engine",
        "_flush_queued",
        "_nodes",
        "_paused",
        "_presences",
        "_ticket",
        "_to_flush",
        "_tpm",
        "_transport",
        "info",
        "listener",
        "rights",
        "sections_kept",
    )

    def __init__(self, listener: "AmqpListener") -> None:
        self.listener = listener
        now = listener.clock.monotonic()
        self._engine = HubConnection(
            now, container_id=listener.container_id, mechanisms=MECHANISMS, bounds=listener.bounds_before
        )
        self._connected_at = now
        self._transport: Any = None
        self._ticket: Ticket | None = None
        self.info = LinkInfo("amqp")
        self.rights = Rights(listener.authentication, listener.limits.amqp_tokens)
        self._presences: dict[tuple[str, str], Presence] = {}
        self._attached: dict[Link, Attached] = {}
        self._nodes: dict[str, RequestNode] = {"$cbs": Cbs(self), "$management": Management(self)}
        self._busy: asyncio.Task[None] | None = None
        self._paused = self._flush_queued = self._awaits_relief = False
        self._clogged: float | None = None  # since when no byte of what waits to go out was taken
        self._clogged_bytes = 0
        self.sections_kept = 0  # by all of its telemetry links
        self._to_flush: dict[Outcomes, None] = {}
        self._tpm: tpm_exchange.TpmExchange | None = None

    # -- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.info = link_info("amqp", transport)
        if self.info.certificates:
            self._engine.mechanisms = (*MECHANISMS, "EXTERNAL")
        self._ticket = self.listener.admission.taken(self.info.peer, self._transport.abort)
        if self._ticket is None or is_out_of_measure(self.info.certificates):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(self.listener.limits.outgoing_bytes)
        self.listener.links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticket is not None:
            self._ticket.gone()
        self.listener.links.discard(self)
        self._transport = None
        if self._busy is not None:
            self._busy.cancel()
        for link in tuple(self._attached):
            self.forget(link)
        for presence in self._presences.values():
            self.listener.sessions.close(presence.principal, presence)
        self._presences.clear()

    def data_received(self, data: bytes) -> None:
        engine = self._engine
        engine.receive_data(data, self.listener.clock.monotonic())
        self._pump()
        if self._ticket is not None and not self._ticket.is_authenticated:
            self._ticket.holds(engine.unread + engine.partial_bytes + engine.link_bytes)

    def pause_writing(self) -> None:
        # what it asks would only be answered into the same full buffer
        self._clogged = self.listener.clock.monotonic()
        self._clogged_bytes = self._transport.get_write_buffer_size()
        self._pause()

    def resume_writing(self) -> None:
        self._clogged = None
        self._resume()
        for attached in tuple(self._attached.values()):
            attached.endpoint.writable()

    @property
    def is_clogged(self) -> bool:
        """The peer takes its bytes slowly: it is fed no more until it has caught up (L-L13)."""
        return self._clogged is not None

    @property
    def hostname(self) -> str:
        """As the peer's open names the hub; empty before it."""
        return self._engine.hostname

    def flush(self) -> None:
        """Write what the engine has to say."""
        if (out := self._engine.data_to_send()) and self._transport is not None:
            self._transport.write(out)

    def flush_soon(self, outcomes: Outcomes) -> None:
        """Gather the dispositions of one turn of the loop."""
        self._to_flush[outcomes] = None
        if not self._flush_queued:
            self._flush_queued = True
            asyncio.get_running_loop().call_soon(self._flush_dispositions)

    def _flush_dispositions(self) -> None:
        self._flush_queued = False
        for outcomes in self._to_flush:
            outcomes.flush()
        self._to_flush.clear()
        self.flush()

    def _pump(self) -> None:
        engine = self._engine
        try:
            while self._busy is None and (event := engine.next_event()) is not None:
                self._handle(event)
        except AmqpError as failure:
            error = BadRequest(reason=f"{failure.condition}: {failure.description}", remedy="the peer breaks AMQP 1.0")
            self.refused(error, "amqp")
            self.flush()
            self._close()
            return
        self.flush()
        if engine.state is State.CLOSED and self._busy is None:
            self._close()
        elif self._busy is not None and engine.unread > _UNREAD:
            self._pause()
        elif self.listener.log.congested and not self._awaits_relief:
            self._awaits_relief = True
            self._pause()
            self.listener.log.when_relieved(self._relieved)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and self._clogged is None and not self._awaits_relief:
            self._paused = False
            self._transport.resume_reading()

    def _relieved(self) -> None:
        self._awaits_relief = False
        self._resume()
        for attached in tuple(self._attached.values()):
            attached.endpoint.relieved()
        self.flush()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def close(self, condition: str, description: str) -> None:
        """End the connection with an error."""
        self._engine.close(condition, description)
        self.flush()
        self._close()

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def check(self, monotonic: float) -> None:
        """The listener's call each second: heartbeats, silence, authorisation that is due or has lapsed."""
        if self._transport is None:
            return
        if monotonic >= self._engine.deadline and not self._engine.handle_timer(monotonic):
            self.flush()
            self._close()
            return
        if not self.rights and monotonic - self._connected_at > self.listener.limits.amqp_authenticate_within:
            self.close("amqp:unauthorized-access", "no authorisation in time")
            return
        if self.rights.registrant is not None and monotonic - self._connected_at > REGISTRATION_LINK.value:
            self.close("amqp:connection:forced", "a device may not take this long to register")
            return
        if self._is_stalled(monotonic):
            self.refused(ServerBusy(reason="the peer does not read what it is sent"), "amqp")
            self._transport.abort()
            return
        whose = self.rights.name
        if self.rights.drop_lapsed():
            self.detach_unauthorised(
                Unauthorized(
                    "The authorisation has expired.",
                    cause="authorisation-expired",
                    reason="the token expired and was not renewed, or the certificate ended",
                ),
                whose,
            )
        self.flush()

    def _is_stalled(self, monotonic: float) -> bool:
        """Whether the peer has taken no byte for too long (L-L13); while it is clogged nothing is added."""
        if self._clogged is None:
            return False
        waiting = self._transport.get_write_buffer_size()
        if waiting < self._clogged_bytes:
            self._clogged, self._clogged_bytes = monotonic, waiting
        return monotonic - self._clogged > self.listener.limits.outgoing_stall

    # -- rights ------------------------------------------------------------------------------------------------------

    def authorised(self, principal: Principal) -> None:
        """A proven credential joins the rights of this connection. Raises TooManyTokens."""
        self.rights.add(principal)
        self._engine.bounds = self.listener.bounds
        if self._ticket is not None:
            self._ticket.authenticated()

    def detach_unauthorised(self, why: HubError, whose: str) -> None:
        """Detach what nobody on this connection allows any more: a credential expired (L-A17), or a policy was changed.

        whose: the name for the record, where the link is not of one identity.
        """
        for link, attached in tuple(self._attached.items()):
            if attached.operation and self.rights.holder(attached.operation, attached.path) is None:
                self.end_link(link, why.again(), identity_name(attached.path) or whose)
        if not self.rights:
            self.close("amqp:unauthorized-access", "the authorisation has expired")

    def refused(self, error: HubError, operation: str, identity: str = "") -> None:
        """Record a refusal; it gets its tracking id here."""
        self.listener.refuse(error, self.info, identity=identity or self.rights.name, operation=operation)

    # -- events of the engine ----------------------------------------------------------------------------------------

    def _handle(self, event: Any) -> None:
        if isinstance(event, DeliveredRun):
            if (attached := self._attached.get(event.link)) is not None:
                attached.endpoint.delivered_run(event)
        elif isinstance(event, Delivered):
            if (attached := self._attached.get(event.link)) is not None:
                work = attached.endpoint.delivered(event.link, event.delivery)
                if work is not None:
                    self._wait_for(work)
        elif isinstance(event, Credited):
            if (attached := self._attached.get(event.link)) is not None:
                attached.endpoint.credited(event.link)
        elif isinstance(event, Settled):
            attached = self._attached.get(event.link)
            if not event.settled and (attached is None or not attached.endpoint.settles):
                event.link.settle(event.delivery_ids, event.state)
            if attached is not None:
                attached.endpoint.settled(event)
        elif isinstance(event, LinkAttached):
            self._wait_for(attach(self, event.link))
        elif isinstance(event, LinkDetached):
            self.forget(event.link)
        elif isinstance(event, SaslInit):
            self._wait_for(self._sasl(event))
        elif isinstance(event, SaslResponse):
            self._wait_for(self._sasl_tpm(event.response))
        elif isinstance(event, Opened):
            self.info = msgspec.structs.replace(self.info, client=event.container_id[:256])
        elif isinstance(event, Closed):
            self.flush()
            self._close()

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` on a task; nothing more of this socket is handled until it ends."""
        self._busy = asyncio.get_running_loop().create_task(self._finish(work))
        self._busy.add_done_callback(lambda _: work.close())  # a task may be cancelled before it begins

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
        if event.mechanism == tpm_exchange.MECHANISM:
            self._tpm = tpm_exchange.TpmExchange(self.listener.registrations, self.info, OPERATION)
            await self._sasl_tpm(event.response)
            return
        # with EXTERNAL, whom the certificate proves is settled when the first link is attached
        ok = event.mechanism in {"ANONYMOUS", "MSSBCBS"} or (
            event.mechanism == "EXTERNAL" and bool(self.info.certificates)
        )
        if event.mechanism == "PLAIN":
            parts = event.response.split(b"\0")
            if len(parts) == 3:
                user, password = (part.decode(errors="replace") for part in parts[1:])
                try:
                    self.authorised(await self._plain(user, password))
                    ok = True
                except HubError as error:
                    self.refused(error, "sasl", user)
        elif not ok:
            self.refused(
                Unauthorized(cause="sasl-mechanism", reason=f"SASL mechanism {event.mechanism[:64]!r} is not offered"),
                "sasl",
            )
        self._engine.sasl_outcome(ok=ok)

    async def _sasl_tpm(self, response: bytes) -> None:
        assert self._tpm is not None, "no other mechanism has challenges"
        try:
            told = await self._tpm.answered(response)
            if isinstance(told, bytes):
                self._engine.sasl_challenge(told)
                return
            self.authorised(told)
        except HubError as error:
            self.refused(error, "sasl")
            self._engine.sasl_outcome(ok=False)
            return
        self._engine.sasl_outcome(ok=True)

    async def _plain(self, user: str, password: str) -> Principal:
        """Raises Unauthorized, recorded."""
        if (name := registrant_name(percent_decoded(user))) is None:
            return await self.listener.authentication.plain(user, password, self.info)
        # no token at all is refused as a bad one is: the certificate of the handshake does not stand in for it here
        return await self.listener.registrations.connect(name, password or "-", self.info, operation=OPERATION)

    # -- links -------------------------------------------------------------------------------------------------------

    def attach(
        self,
        link: Link,
        endpoint: LinkEndpoint,
        operation: str = "",
        path: tuple[str, ...] = (),
        presence: Presence | None = None,
    ) -> None:
        """From now on ``endpoint`` is told what happens on ``link``."""
        self._attached[link] = Attached(endpoint, operation, path, presence)
        if presence is not None:
            presence.links.add(link)

    def attach_node(self, link: Link, name: str) -> None:
        """``$cbs`` or ``$management``: open to anybody, each request is judged by itself."""
        node = self._nodes[name]
        self.attach(link, node)
        node.accept(link)

    def registration_node(self) -> RequestNode:
        """Where a device that registers asks."""
        if "registrations" not in self._nodes:
            self._nodes["registrations"] = RegistrationNode(self)
        return self._nodes["registrations"]

    def presence_of(self, principal: Principal) -> Presence:
        """The identity is present on this connection; its links on another one are stolen."""
        key = (principal.device_id, principal.module_id)
        presence = self._presences.get(key)
        if presence is None:
            self.listener.throttles.check("connects", principal.name)
            presence = Presence(self, principal)
            self.listener.sessions.open(principal, presence, "amqp")
            self._presences[key] = presence
        return presence

    def presence_of_link(self, link: Link) -> Presence | None:
        """The identity's presence that an attached link is part of."""
        attached = self._attached.get(link)
        return attached.presence if attached is not None else None

    def end_link(self, link: Link, error: HubError, whose: str = "") -> None:
        """Detach one link with ``error``. whose: the name for the record, if it is not who is authorised here."""
        self.refused(error, "link", whose)
        self.forget(link)
        info = {"com.microsoft:tracking-id": error.tracking_id}
        end = link.detach if link.initiated else link.refuse
        end(on_wire(error).amqp, f"{error} Tracking id {error.tracking_id}", info)
        self.flush()

    def drop_presence(self, presence: Presence, error: HubError) -> None:
        """Detach all links of one identity; a connection with nobody left on it is closed."""
        principal = presence.principal
        key = (principal.device_id, principal.module_id)
        if self._presences.pop(key, None) is None:
            return
        self.listener.sessions.close(principal, presence)
        for link in tuple(presence.links):
            self.end_link(link, error, principal.name)
        if not isinstance(error, LinkStolen):
            self.rights.drop_identity(*key)
        if not self.rights and not self._presences:
            self.close(on_wire(error).amqp, str(error))

    def forget(self, link: Link) -> None:
        """The link is gone, or was never accepted."""
        attached = self._attached.pop(link, None)
        if attached is None:
            return
        attached.endpoint.detached(link)
        presence = attached.presence
        if presence is None:
            return
        presence.links.discard(link)
        key = (presence.principal.device_id, presence.principal.module_id)
        if not presence.links and self._presences.get(key) is presence:
            del self._presences[key]
            self.listener.sessions.close(presence.principal, presence)
