"""What happens between a CONNECT and its CONNACK: who is it, may it, which session does it go on with."""

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from hubkeep.errors import BadRequest, Forbidden, Unauthorized
from hubkeep.model import LinkInfo, Principal
from hubkeep.wire.mqtt import Connect

from .dialect import Dialect
from .registering import OPERATION, Registrant, RegistrantSession, registrant
from .session import Session
from .telemetry import Telemetry, check_will
from .topics import UserName, parse_user_name, telemetry_topic

if TYPE_CHECKING:
    from .listener import MqttListener

_CLIENT_ID: Final = 257  # characters: a device id, a slash and a module id


class LoggedIn(NamedTuple):
    """telemetry: None for a device that registers, which has none. expires: Unix seconds, 0 never. present: a stored
    session goes on (Session Present)."""

    client_id: str
    principal: Principal
    session: Session | RegistrantSession
    telemetry: Telemetry | None
    expires: float
    present: bool = False
    api_version: str = ""


class Login:
    """Of one CONNECT. info: of the link, with what the client calls itself as soon as that is read."""

    def __init__(self, listener: "MqttListener", dialect: Dialect, info: LinkInfo) -> None:
        self._listener, self._dialect, self.info = listener, dialect, info

    async def carry_out(self, connect: Connect) -> LoggedIn:
        """Nothing is open yet when this returns: the caller opens it without awaiting, if the socket is still there.

        Raises HubError.
        """
        if not connect.client_id or len(connect.client_id) > _CLIENT_ID:
            raise BadRequest(reason="the client id is empty or too long")
        if connect.username is None:
            raise Unauthorized(
                cause="user-name-missing",
                reason="no user name",
                remedy="user name: {host}/{client id}/?api-version=2021-04-12",
            )
        token = connect.password.decode(errors="replace") if connect.password else None
        if (registers := registrant(connect)) is not None:
            return await self._registrant(registers, token, connect)
        return await self._device(parse_user_name(connect.username, connect.client_id), token, connect)

    async def _device(self, name: UserName, token: str | None, connect: Connect) -> LoggedIn:
        listener = self._listener
        self.info = msgspec.structs.replace(self.info, client=name.client_type)
        principal = await self._authorized(name, token)
        listener.throttles.check("connects", principal.name)
        if connect.properties.text("authentication_method") is not None:
            raise Unauthorized(
                cause="authentication-method",
                reason="an authentication method of MQTT 5",
                remedy="send the token as password, with a user name",
            )
        if connect.will is not None:
            check_will(connect.will, telemetry_topic(name.device_id, name.module_id))
        if name.model_id:
            await listener.twins.note_model(principal, self.info, name.model_id)
        if delay := listener.sessions.takeover_delay(principal):
            await asyncio.sleep(delay)
        session = Session(listener.subscriptions, name.device_id, name.module_id)
        present = await session.begin(
            clean=connect.clean_session, expiry=self._dialect.session_expiry, now=listener.clock.now()
        )
        if delay or session.forgot:
            principal = await self._authorized(name, token)  # it may have been disabled meanwhile
        telemetry = Telemetry(listener, principal, name)
        expires = listener.authentication.lapses(principal)
        return LoggedIn(connect.client_id, principal, session, telemetry, expires, present)

    async def _registrant(self, registers: Registrant, token: str | None, connect: Connect) -> LoggedIn:
        """A device that registers is no identity yet: it has no session that lasts, no telemetry and no will."""
        registrations = self._listener.registrations
        self.info = msgspec.structs.replace(self.info, client=registers.client)
        principal = await registrations.connect(registers.name, token, self.info, operation=OPERATION)
        if connect.will is not None or connect.properties.text("authentication_method") is not None:
            raise Forbidden(
                cause="registering-only",
                reason="a will, or an authentication method of MQTT 5, of a device that registers",
            )
        return LoggedIn(
            connect.client_id,
            principal,
            RegistrantSession(),
            telemetry=None,
            expires=registrations.ends(principal),
            api_version=registers.api_version,
        )

    async def _authorized(self, name: UserName, token: str | None) -> Principal:
        authentication = self._listener.authentication
        principal = await authentication.device(
            name.device_id, name.module_id, token, self.info, operation="mqtt/connect"
        )
        path = ("devices", name.device_id, *(("modules", name.module_id) if name.module_id else ()))
        authentication.authorize(principal, "mqtt/connect", path, self.info)
        return principal
