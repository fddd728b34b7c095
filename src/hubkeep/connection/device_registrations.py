"""Registering over a connection that stays, MQTT or AMQP: who may, and what is answered. How, is the wire's own.

Source: provisioning-and-pki 1.3 to 1.6, 1.8. Start at ``DeviceRegistrations.connect``.
"""

import logging
from collections.abc import Awaitable
from typing import Final, NamedTuple

import msgspec

from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.device.provisioning.tpm import TpmKeys
from hubkeep.errors import BadRequest, HubError, Unauthorized, on_wire
from hubkeep.limits import REGISTER_BODY, REGISTRATION_ID, REGISTRATION_LINK, Limits
from hubkeep.model import LinkInfo, Principal, RegistrationOperation
from hubkeep.ports import Clock, RecordRefusal

from .authentication import Authentication
from .registration_documents import operation_document, provisioning_refusal, register_request, registration_document

log = logging.getLogger(__name__)

_REGISTRATIONS: Final = "registrations"
_BUSY_FOR: Final = 3  # seconds until a device should try again what failed by the hub's fault


class RegistrantName(NamedTuple):
    """What a device says of itself. Nothing here is proven."""

    id_scope: str
    registration_id: str


class RegistrationAnswer(NamedTuple):
    """body: JSON of 1.4, or of 1.5 for an error. retry_after: seconds until the device should ask again."""

    status: int
    body: bytes
    retry_after: int | None = None
    error: HubError | None = None


def registrant_name(text: str) -> RegistrantName | None:
    """``{scope}/registrations/{id}``, which is a user name and a link address; None for anything else."""
    parts = text.split("/")
    if len(parts) != 3 or parts[1].lower() != _REGISTRATIONS or not parts[0] or not parts[2]:
        return None
    return RegistrantName(parts[0], parts[2])


class DeviceRegistrations:
    """All that a link of a device which registers may ask. Refusals are recorded here."""

    def __init__(
        self,
        registrations: Registrations,
        authentication: Authentication,
        clock: Clock,
        limits: Limits,
        refuse: RecordRefusal,
    ) -> None:
        self._registrations, self._authentication = registrations, authentication
        self._clock, self._limits, self._refuse = clock, limits, refuse

    async def connect(self, name: RegistrantName, token: str | None, link: LinkInfo, *, operation: str) -> Principal:
        """Prove the device by its token, or without one by the certificate of its handshake. Raises Unauthorized,
        recorded.
        """
        principal = await self._authentication.registration(*_bounded(name), token, link, operation=operation)
        self._authentication.authorize(principal, operation, principal.scope, link)
        return principal

    async def tpm_challenge(self, name: RegistrantName, keys: TpmKeys, link: LinkInfo, *, operation: str) -> bytes:
        """See Authentication.tpm_challenge."""
        return await self._authentication.tpm_challenge(*_bounded(name), keys, link, operation=operation)

    def ends(self, principal: Principal) -> float:
        """Unix seconds at which its link goes at the latest."""
        latest = self._clock.now() + REGISTRATION_LINK.value
        return min(self._authentication.lapses(principal) or latest, latest)

    async def register(
        self, principal: Principal, link: LinkInfo, body: bytes, api_version: str, operation: str
    ) -> RegistrationAnswer:
        async def work() -> RegistrationAnswer:
            if len(body) > REGISTER_BODY.value:
                raise BadRequest(f"A request to register has at most {REGISTER_BODY.value} bytes.")
            request = register_request(body, api_version, self._limits)
            return _told(await self._registrations.register(principal, principal.scope[2], request, link))

        return await self._answered(work(), principal, link, operation)

    async def status(
        self, principal: Principal, link: LinkInfo, operation_id: str, operation: str
    ) -> RegistrationAnswer:
        async def work() -> RegistrationAnswer:
            return _told(await self._registrations.status(principal, principal.scope[2], operation_id))

        return await self._answered(work(), principal, link, operation)

    async def record(self, principal: Principal, link: LinkInfo, operation: str) -> RegistrationAnswer:
        async def work() -> RegistrationAnswer:
            record = await self._registrations.own_record(principal, principal.scope[2])
            return RegistrationAnswer(200, msgspec.json.encode(registration_document(record)))

        return await self._answered(work(), principal, link, operation)

    def refusal(self, error: HubError, name: str, link: LinkInfo, operation: str) -> RegistrationAnswer:
        """An error as the device reads it; recorded. name: of the principal."""
        tracking_id = self._refuse(error, link, identity=name, operation=operation)
        status = on_wire(error).http
        retry_after = getattr(error, "retry_after", _BUSY_FOR if status >= 500 else None)
        body = provisioning_refusal(error, tracking_id, self._clock.now())
        return RegistrationAnswer(status, msgspec.json.encode(body), retry_after, error)

    async def _answered(
        self, work: Awaitable[RegistrationAnswer], principal: Principal, link: LinkInfo, operation: str
    ) -> RegistrationAnswer:
        try:
            self._check(principal)
            return await work
        except HubError as error:
            return self.refusal(error, principal.name, link, operation)
        except Exception:
            log.exception("%s failed", operation)
            return self.refusal(HubError(reason="a fault of the hub, see its log"), principal.name, link, operation)
        finally:
            if hasattr(work, "close"):
                work.close()

    def _check(self, principal: Principal) -> None:
        """The link may be older than what its credential stands on. Raises Unauthorized."""
        if (changed := self._authentication.changes.since(principal)) is not None:
            raise changed
        if self._authentication.expired(principal):
            raise Unauthorized(cause="authorisation-expired", reason="the token or certificate ended while connected")


def _bounded(name: RegistrantName) -> RegistrantName:
    """A name too long is cut to one that is nobody's."""
    return name._replace(registration_id=name.registration_id[: REGISTRATION_ID.value + 1])


def _told(operation: RegistrationOperation) -> RegistrationAnswer:
    body = msgspec.json.encode(operation_document(operation))
    if operation.registration is None:
        return RegistrationAnswer(202, body, operation.retry_after)
    return RegistrationAnswer(200, body)
