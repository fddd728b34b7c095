"""One device's MQTT socket. Takes every whole packet of a chunk in one loop, writes once per chunk.

Everything about the sender is settled at CONNECT. Per message there remain a look-up of its topic in the properties
seen before, a size check, and joining the stored form; a commit acknowledges a chunk with one write.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hubkeep.errors import (
    BadRequest,
    HubError,
    LinkStolen,
    RequestTimeout,
    ServerBusy,
    Unauthorized,
)
from hubkeep.limits import REQUESTS_PER_TURN, THROTTLE_WAIT, TOPIC_LENGTH
from hubkeep.messaging.device_to_cloud import Sender
from hubkeep.model import LinkInfo, Principal
from hubkeep.wire.mqtt import (
    Connect,
    Disconnect,
    HubConnection,
    MqttError,
    PubAck,
    Publish,
    State,
    Subscribe,
    Unsubscribe,
    connack,
    packets5,
)
from hubkeep.wire.mqtt.packets import SUBACK_FAILURE

from ..admission import Ticket
from ..peers import is_out_of_measure, link_info
from .acknowledgements import Acknowledgements, Held
from .dialect import Dialect, dialect_of
from .features import FEATURES, Device, Features
from .logins import LoggedIn, Login
from .registering import REGISTRANT_FEATURES, RegistrantSession, is_registrant
from .session import Session
from .telemetry import SAYS_MORE, Telemetry
from .wills import LastWill

if TYPE_CHECKING:
    from .listener import MqttListener

log = logging.getLogger(__name__)

_NOTHING_KNOWN: Final[dict[bytes, bytes]] = {}


class MqttLink(asyncio.Protocol):
    """Made by MqttListener for each connection, and for each WebSocket tunnel of subprotocol mqtt."""

    __slots__ = (
        "__weakref__",
        "_acks",
        "_api_version",
        "_connection",
        "_dialect",
        "_durable",
        "_features",
        "_info",
        "_late_since",
        "_leaving",
        "_listener",
        "_login",
        "_paused",
        "_pending",
        "_postponed",
        "_session",
        "_telemetry",
        "_ticket",
        "_transport",
        "_unsent_since",
        "_will",
        "expires",
        "principal",
    )

    def __init__(self, listener: "MqttListener") -> None:
        self._listener = listener
        self._connection = HubConnection(listener.clock.monotonic(), listener.bounds)
        self._dialect: Dialect | None = None  # known with the CONNECT
        self._transport: Any = None
        self._ticket: Ticket | None = None
        self._info = LinkInfo("mqtt")
        self._login: asyncio.Task[None] | None = None
        self._telemetry: Telemetry | None = None  # once it is logged in
        self._will: LastWill | None = None
        self._session: Session | RegistrantSession | None = None
        self._api_version = ""
        self._features: Features | None = None
        self._acks = Acknowledgements()
        self._pending = 0
        self._paused = False
        self._leaving = False
        self._unsent_since: float | None = None
        self.principal: Principal | None = None
        self.expires = 0.0
        self._durable = self._on_durable
        self._postponed: Publish | None = None  # it waits for its turn
        self._late_since: float | None = None  # when messages began to wait without an end in between

    # -- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._info = link_info("mqtt", transport)
        self._ticket = self._listener.admission.taken(self._info.peer, self._transport.abort)
        if self._ticket is None or is_out_of_measure(self._info.certificates):
            self._transport.abort()
            return
        self._listener.links.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticket is not None:
            self._ticket.gone()
        listener = self._listener
        listener.links.discard(self)
        if self._login is not None:
            self._login.cancel()
        self._connection.state = State.CLOSED
        if self.principal is not None:
            listener.sessions.close(self.principal, self)
            listener.registered(self)
        self._transport = None
        if self._features is not None:
            self._features.close(cut=False)
            self._features = None
        if self._will is not None:
            self._leave_will(self._will)

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        connection.receive_data(data, self._listener.clock.monotonic())
        self._pump()
        if self.principal is None and self._ticket is not None:
            self._ticket.holds(connection.unread)

    def pause_writing(self) -> None:
        self._unsent_since = self._listener.clock.monotonic()

    def resume_writing(self) -> None:
        self._unsent_since = None
        if self._features is not None:
            self._features.writable()

    def _is_clogged(self) -> bool:
        return self._unsent_since is not None

    def _pump(self) -> None:
        connection, telemetry = self._connection, self._telemetry
        sender = telemetry.sender if telemetry is not None else None
        tails: list[bytes] = []
        acks: list[bytes] = []
        requests = 0
        listener = self._listener
        ingress = listener.ingress_stamp()
        known = telemetry.known if telemetry is not None else _NOTHING_KNOWN
        limit = listener.small_enough
        join, head_of = b"".join, listener.data_section_head
        is_metered = telemetry is not None and "telemetry" in listener.throttles.on
        next_event = self._next_within_rate if is_metered else connection.next_event
        try:
            while (event := next_event()) is not None:
                if type(event) is Publish:
                    topic, payload = event.topic, event.payload
                    sections = known.get(topic)
                    size = len(payload)
                    if sections is None or event.flags & SAYS_MORE or size + len(topic) > limit:
                        if telemetry is None or topic.startswith(b"$"):
                            if tails and sender is not None:
                                self._append(sender, tails, acks)
                                tails, acks = [], []
                            self._request(event)
                            requests += 1
                            if requests == REQUESTS_PER_TURN.value:
                                self._let_others_go_on()
                            continue
                        sections = telemetry.sections(event)
                    tails.append(join((ingress, sections, head_of(size), payload)))
                    if event.packet_id:
                        acks += (b"\x40\x02", event.packet_id)
                else:
                    if tails and sender is not None:
                        self._append(sender, tails, acks)
                        tails, acks = [], []
                    self._handle(event)
        except MqttError as error:
            self._append_and_close(sender, tails, acks, error)
            return
        except HubError as error:
            self._append_and_close(sender, tails, acks, error)
            return
        if tails and sender is not None:
            self._append(sender, tails, acks)
        if self._transport is None:
            return
        if out := connection.data_to_send():
            self._transport.write(out)
        if connection.state is not State.OPEN and connection.unread > listener.bounds.max_connect:
            self._pause()

    def _next_within_rate(self) -> Any:
        """The next event; None also while a message has to wait for its turn: its PUBACK comes later (L-O1).

        Raises Throttled for one that has waited too long, QuotaExceeded.
        """
        connection, throttles = self._connection, self._listener.throttles
        if connection.state is State.HELD:
            return None  # it goes on by itself
        event = self._postponed or connection.next_event()
        self._postponed = None
        if type(event) is not Publish or event.topic.startswith(b"$"):
            if event is None:
                self._late_since = None
            return event
        wait = throttles.taken("telemetry", self._name, len(event.topic) + len(event.payload))
        if not wait:
            return event
        now = self._listener.clock.monotonic()
        if self._late_since is None:
            self._late_since = now
            self._refused(throttles.refusal("telemetry", self._name, wait), "events/publish")
        elif now - self._late_since > THROTTLE_WAIT.value:
            raise throttles.refusal("telemetry", self._name, wait)
        self._postponed = event
        connection.hold()
        self._pause()
        asyncio.get_running_loop().call_later(wait, self._next_turn)
        return None

    def _append(self, sender: Sender, tails: list[bytes], acks: list[bytes]) -> None:
        listener = self._listener
        try:
            listener.log.append(sender.partition, sender.head, tails, self._durable)
        except HubError as error:
            self._end_for(error, "events/publish")
            return
        self._acks.append(b"".join(acks))
        self._pending += len(acks) >> 1
        listener.accepted += len(tails)
        if self._pending >= listener.limits.uncommitted_publishes:
            if self._connection.level == 5 and self._pending > listener.limits.uncommitted_publishes:
                self._end_for(BadRequest(reason="more publishes in flight than Receive Maximum allows").by("L-M19"))
                return
            self._pause()
        elif listener.log.congested:
            self._pause()
            listener.log.when_relieved(self._resume)

    def _append_and_close(
        self, sender: Sender | None, tails: list[bytes], acks: list[bytes], error: MqttError | HubError
    ) -> None:
        """What came before the fault was good and is kept; the link ends."""
        if tails and sender is not None:
            self._append(sender, tails, acks)
        if isinstance(error, MqttError):
            refusal = BadRequest(reason=f"{error} ({error.rule})", remedy="the client breaks the rules of MQTT")
            self._refused(refusal, "mqtt")
            self._write(self._last_words(error))
            self.close(refusal)
        else:
            self._end_for(error)

    def _on_durable(self, error: HubError | None) -> None:
        """The log's call after each commit that held a chunk of ours, in the order of the chunks."""
        acks = self._acks.durable()
        self._pending -= len(acks) >> 2
        if self._transport is None:
            return
        if error is not None:
            self._end_for(error, "events/publish")
            return
        if acks:
            self._transport.write(acks)
        if self._leaving:
            self._leave()
            return
        if self._paused and self._pending < self._listener.limits.uncommitted_publishes and self._postponed is None:
            self._resume()

    def _leave(self) -> None:
        """After DISCONNECT: what came before it is still acknowledged."""
        if not self._acks and self._transport is not None:
            self._transport.close()

    def _let_others_go_on(self) -> None:
        """A chunk may hold thousands of requests, each worth much more time than a message of telemetry."""
        self._connection.hold()
        self._pause()
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        if self._transport is None or self._connection.state is not State.HELD:
            return
        self._connection.go_on()
        self._pump()
        if self._takes_more():
            self._resume()

    def _takes_more(self) -> bool:
        return self._connection.state is State.OPEN and self._pending < self._listener.limits.uncommitted_publishes

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def close(self, error: HubError | None) -> None:
        """End the connection; what was written goes out first. None: the hub stops."""
        if self._connection.state in {State.OPEN, State.HELD} and self._dialect is not None:
            self._write(self._dialect.farewell(error))
        self._connection.state = State.CLOSED
        if self._transport is not None:
            self._transport.close()

    def _end_for(self, error: HubError, operation: str = "mqtt") -> None:
        self._refused(error, operation)
        self.close(error)

    def _last_words(self, error: MqttError) -> bytes:
        """To a client that broke the protocol: a CONNACK if it was with its CONNECT, else a reason if it reads one."""
        if error.connack is not None:
            return connack(error.connack)
        if self._connection.level != 5:
            return b""
        return packets5.connack(error.reason) if self._dialect is None else packets5.disconnect(error.reason)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def cut(self, error: HubError) -> None:
        """Sessions: a newer link took over, or the identity may no longer be here."""
        self._refused(error, "mqtt")
        if self.principal is not None:
            self._listener.sessions.close(self.principal, self)
        if self._features is not None:
            self._features.close(cut=True)
            self._features = None
        if isinstance(error, LinkStolen) and self._will is not None and self._will.delay:
            self._will = None  # the client is back before the delay is over
        words = self._dialect.farewell(error) if self._dialect is not None else b""
        self._connection.state = State.CLOSED
        if self._transport is None:
            return
        if words and not self._is_clogged():
            self._transport.write(words)
            self._transport.close()
        else:
            self._transport.abort()

    def check(self, monotonic: float, wall: float) -> None:
        """The listener's call each second: deadlines of the client's silence, its token, and its reading."""
        if self._transport is None:
            return
        if monotonic >= self._connection.deadline and not self._paused and self._postponed is None:
            reason = "no CONNECT in time" if self.principal is None else "silent for longer than its keep-alive allows"
            log.debug("%s from %s: %s", self._name, self._info.peer, reason)
            if self.principal is None:
                self._connection.state = State.CLOSED
                self._transport.abort()  # whoever is silent does not answer the end of TLS either
            else:
                self.close(RequestTimeout(reason=reason))
        elif self.expires and wall > self.expires:
            self._end_for(
                Unauthorized(
                    cause="authorisation-expired",
                    reason="the token or certificate, or the time to register, ended while connected",
                    remedy="renew it: connect again",
                )
            )
        elif self._unsent_since is not None and monotonic - self._unsent_since > self._listener.limits.outgoing_stall:
            self._refused(ServerBusy(reason="the client does not read what it is sent"), "mqtt")
            self._transport.abort()

    @property
    def _name(self) -> str:
        return self.principal.name if self.principal is not None else ""

    def _refused(self, error: HubError, operation: str) -> None:
        self._listener.refuse(error, self._info, identity=self._name, operation=operation)

    # -- packets -----------------------------------------------------------------------------------------------------

    def _handle(self, event: Any) -> None:
        if isinstance(event, Connect):
            self._login = asyncio.get_running_loop().create_task(self._authenticate(event))
        elif isinstance(event, Subscribe):
            self._subscribe(event)
        elif isinstance(event, Unsubscribe):
            self._unsubscribe(event)
        elif isinstance(event, PubAck):
            if self._features is not None:
                self._features.acknowledged(event.packet_id)
        else:
            self._disconnect(event)

    async def _authenticate(self, connect: Connect) -> None:
        listener = self._listener
        dialect = self._dialect = dialect_of(connect, listener.limits)
        login = Login(listener, dialect, self._info)
        try:
            logged_in = await login.carry_out(connect)
            self._info = login.info
            if self._transport is None:
                return
            self._opened(logged_in)  # refuses as well: what was proved may have changed meanwhile
        except Exception as error:
            if isinstance(error, HubError):
                listener.refuse(error, login.info, identity=connect.client_id, operation="mqtt/connect")
            else:
                log.exception("a CONNECT failed")
            self._login = None
            self._connection.refuse()
            if self._transport is not None:
                self._transport.write(dialect.refused(error))
                self._transport.close()
            return
        self._transport.write(
            dialect.accepted(session_present=logged_in.present, limits=listener.limits, max_packet=listener.max_packet)
        )
        self._login = None
        self._connection.accept(connect.keep_alive)
        if connect.will is not None and logged_in.telemetry is not None:
            self._will = LastWill(connect.will, logged_in.telemetry, dialect.session_expiry)
        for topic_filter, qos in logged_in.session.filters.items():
            self._device_features().subscribed(topic_filter, qos)
        self._resume()
        self._pump()

    def _opened(self, logged_in: LoggedIn) -> None:
        listener, principal = self._listener, logged_in.principal
        if self._ticket is not None:
            self._ticket.authenticated()
        if logged_in.telemetry is not None:
            listener.sessions.open(principal, self, "mqtt")
            listener.wills.cancel(logged_in.client_id)
        self.principal, self.expires, self._session = principal, logged_in.expires, logged_in.session
        self._telemetry, self._api_version = logged_in.telemetry, logged_in.api_version
        if logged_in.telemetry is None:
            listener.registers(self)

    def _subscribe(self, event: Subscribe) -> None:
        session, listener = self._session, self._listener
        assert session is not None
        assert self._dialect is not None
        codes, after = session.grant(
            event.filters,
            listener.limits.subscriptions,
            lenient=listener.lenient_subscriptions,
            over_quota=self._dialect.over_quota,
        )

        def subscribed(features: Features) -> None:
            for (topic_filter, _), qos in zip(event.filters, codes, strict=True):
                if qos < SUBACK_FAILURE:
                    features.subscribed(topic_filter, qos)

        self._change_session(after, self._dialect.suback(event.packet_id, codes), subscribed)

    def _unsubscribe(self, event: Unsubscribe) -> None:
        assert self._session is not None
        assert self._dialect is not None
        known = [each in self._session.filters for each in event.filters]
        gone = [each for each in event.filters if each in self._session.filters]

        def unsubscribed(features: Features) -> None:
            for topic_filter in gone:
                features.unsubscribed(topic_filter)

        after = {each: qos for each, qos in self._session.filters.items() if each not in gone}
        self._change_session(after, self._dialect.unsuback(event.packet_id, known), unsubscribed)

    def _change_session(self, after: dict[bytes, int], answer: bytes, then: Callable[[Features], None]) -> None:
        """Answer once the change is in force; what stands behind it on the wire waits."""
        assert self._session is not None
        if self._session.must_store(after):
            self._connection.hold()
            self._login = asyncio.get_running_loop().create_task(self._store_session(after, answer, then))
            return
        self._session.change(after)
        self._transport.write(answer)
        then(self._device_features())

    async def _store_session(self, after: dict[bytes, int], answer: bytes, then: Callable[[Features], None]) -> None:
        assert self._session is not None
        try:
            await self._session.store(after)
        except HubError as error:
            self._end_for(error, "mqtt/subscribe")
            return
        except Exception:
            log.exception("a subscription could not be stored")
            self.close(ServerBusy())
            return
        finally:
            self._login = None
        if self._transport is None or self._connection.state is State.CLOSED:
            return
        self._session.change(after)
        self._transport.write(answer)
        then(self._device_features())
        self._connection.go_on()
        self._resume()
        self._pump()

    def _device_features(self) -> Features:
        if self._features is None:
            assert self.principal is not None
            assert self._session is not None
            assert self._dialect is not None
            self._features = Features(
                Device(
                    self._listener,
                    self.principal,
                    self._info,
                    self._session.filters,
                    self._dialect,
                    self._send,
                    self._end,
                    self._is_clogged,
                    self._api_version,
                ),
                REGISTRANT_FEATURES if is_registrant(self.principal) else FEATURES,
            )
        return self._features

    def _request(self, event: Publish) -> None:
        """A publish that is no telemetry: its feature answers it in its own time, the PUBACK keeps its place."""
        if len(event.topic) > TOPIC_LENGTH.value:
            raise BadRequest(reason="the topic is too long")
        if not event.packet_id:
            self._device_features().publish(event, _nothing)
            return
        held = self._acks.hold(b"\x40\x02" + event.packet_id)
        self._pending += 1
        self._device_features().publish(event, partial(self._carried_out, held))
        if self._pending >= self._listener.limits.uncommitted_publishes:
            self._pause()

    def _carried_out(self, held: Held) -> None:
        acks = self._acks.release(held)
        self._pending -= len(acks) >> 2
        self._send(acks)
        if self._leaving:
            self._leave()
        elif self._paused and self._pending < self._listener.limits.uncommitted_publishes:
            self._resume()

    def _send(self, data: bytes) -> None:
        """To the device; a link that does not take what it is sent goes, with nothing held for it (L-L13)."""
        if self._transport is None or not data:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._listener.limits.outgoing_bytes:
            self._refused(ServerBusy(reason="the client does not read what it is sent").by("L-L13"), "mqtt")
            self._transport.abort()

    def _end(self, error: HubError) -> None:
        """A feature's request that the link does not survive; the refusal is recorded already."""
        log.debug("%s is closed: %s", self._name, error.reason)
        self.close(error)

    def _disconnect(self, event: Disconnect) -> None:
        if event.reason != packets5.DISCONNECT_WITH_WILL:
            self._will = None
        self._connection.state = State.CLOSED
        self._leaving = True
        expiry = event.properties.values.get("session_expiry")
        if isinstance(expiry, int) and self._session is not None:
            self._listener.run(self._end_session(self._session, expiry))
        self._leave()

    async def _end_session(self, session: Session | RegistrantSession, expiry: int) -> None:
        """A client of MQTT 5 gives its session another span at its end."""
        assert self._dialect is not None
        try:
            if self._dialect.session_expiry == 0 and expiry:
                raise BadRequest(reason="a session without expiry cannot be given one at its end")
            await session.end_after(expiry)
        except HubError as error:
            self._refused(error, "mqtt/disconnect")

    def _leave_will(self, will: LastWill) -> None:
        """Now, or when the delay that the client asked for is over, or its session if that is earlier."""
        publish = partial(self._publish_will, will)
        if will.delay and self.principal is not None:
            self._listener.wills.delay(self.principal.name, self._listener.clock.monotonic() + will.delay, publish)
        else:
            publish()

    def _publish_will(self, will: LastWill) -> None:
        try:
            will.publish()
        except HubError as error:
            self._refused(error, "mqtt/will")


def _nothing() -> None:
    """QoS 0 asks for no acknowledgement."""
