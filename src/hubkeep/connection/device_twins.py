"""Twins as devices see them, the same on every wire (device-protocols 3.13, 4.9)."""

import logging
from typing import Final

import msgspec

from hubkeep.errors import HubError, on_wire
from hubkeep.messaging.twins import Twins
from hubkeep.model import DesiredPatch, LinkInfo, Principal, Twin
from hubkeep.ports import Clock, RecordRefusal

from .authentication import Authentication
from .refusal_bodies import numbered_refusal
from .strict_json import strict_json
from .throttling import Throttles

log = logging.getLogger(__name__)

OPERATION: Final = "twin/request"


class TwinAnswer(msgspec.Struct, frozen=True):
    """status: as HTTP has it. version: of the reported properties after a change. error: what was refused."""

    status: int
    body: bytes = b""
    version: int | None = None
    error: HubError | None = None


class DeviceTwins:
    """What a device or module may ask of its own twin. Every request is checked anew at the moment it acts (L-R6)."""

    def __init__(
        self, twins: Twins, authentication: Authentication, throttles: Throttles, refuse: RecordRefusal, clock: Clock
    ) -> None:
        self._twins, self._authentication, self._refuse, self._clock = twins, authentication, refuse, clock
        self._throttles = throttles

    async def read(self, principal: Principal, link: LinkInfo) -> TwinAnswer:
        """200 and the document; a refusal otherwise. Raises Forbidden, Unauthorized, recorded: the link must go."""
        self._authorize(principal, link)
        try:
            self._throttles.check("twin-reads", principal.name)
            twin = await self._twins.get(principal.device_id, principal.module_id)
        except Exception as error:  # noqa: BLE001  # told in the answer
            return self.refusal(error, principal, link)
        return TwinAnswer(200, device_document(twin))

    async def report(self, principal: Principal, link: LinkInfo, body: bytes, version: int | None) -> TwinAnswer:
        """204 and the new version; a refusal otherwise. Raises Forbidden, Unauthorized, recorded: the link must go."""
        self._authorize(principal, link)
        try:
            self._throttles.check("twin-updates", principal.name)
            patch = strict_json(body)
            twin = await self._twins.report(principal.device_id, principal.module_id, patch, version)
        except Exception as error:  # noqa: BLE001  # told in the answer
            return self.refusal(error, principal, link)
        return TwinAnswer(204, version=twin.reported.version)

    async def note_model(self, principal: Principal, link: LinkInfo, model_id: str) -> None:
        """Keep the model that a connection named; one that cannot be kept is recorded, and the link goes on."""
        try:
            await self._twins.note_model(principal.device_id, principal.module_id, model_id)
        except HubError as error:
            self._refuse(error, link, identity=principal.name, operation=OPERATION)

    def refusal(self, error: Exception, principal: Principal, link: LinkInfo) -> TwinAnswer:
        """``error`` recorded, as an answer."""
        tracking_id, refused = "", None
        if isinstance(error, HubError):
            tracking_id = self._refuse(error, link, identity=principal.name, operation=OPERATION)
            refused = error
        else:
            log.error("a twin request failed", exc_info=error)
        body = numbered_refusal(error, tracking_id, self._clock.now())
        return TwinAnswer(on_wire(error).http, msgspec.json.encode(body), error=refused)

    def _authorize(self, principal: Principal, link: LinkInfo) -> None:
        self._authentication.authorize(principal, OPERATION, principal.path, link)


def device_document(twin: Twin) -> bytes:
    """Both sections with their versions; no metadata, tags or etag."""
    return msgspec.json.encode(
        {
            "desired": {**twin.desired.properties, "$version": twin.desired.version},
            "reported": {**twin.reported.properties, "$version": twin.reported.version},
        }
    )


def desired_body(patch: DesiredPatch) -> bytes:
    """A desired patch as it is pushed to the device."""
    return msgspec.json.encode({**patch.patch, "$version": patch.version})
