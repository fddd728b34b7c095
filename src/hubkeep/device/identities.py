"""Device identities: create, read, update, delete, list. Source: service-protocols 2.3, 2.7."""

import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from typing import Final

import msgspec

from hubkeep.errors import BadRequest, DeviceNotFound, PreconditionFailed, QuotaExceeded
from hubkeep.limits import IDENTITY_ID, LIST_TOP, STATUS_REASON, Limits
from hubkeep.model import Identity, IdentityChange
from hubkeep.ports import Bus, Clock, IdentityCount, IdentityStore

from .keys import new_key

_ID: Final = re.compile(rf"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{{1,{IDENTITY_ID.value}}}")
_THUMBPRINT: Final = re.compile(r"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})")
_SCOPE: Final = "ms-azure-iot-edge://"
_TICKS_BEFORE_1970: Final = 621_355_968_000_000_000
_READ_AGAIN: Final = 4


class Identities:
    """The registry's rules. ``etag`` arguments: a stored etag, or ``*`` for any."""

    def __init__(self, store: IdentityStore, bus: Bus, clock: Clock, limits: Limits) -> None:
        self._store, self._bus, self._clock, self._limits = store, bus, clock, limits
        self._last_generation = 0

    async def get(self, device_id: str) -> Identity:
        """Raises DeviceNotFound, BadRequest for an id that cannot be one."""
        check_id(device_id)
        identity = await self._store.get(device_id)
        if identity is None:
            raise DeviceNotFound
        return identity

    async def create(self, wanted: Identity) -> Identity:
        """Register a device; keys are made where none are given (both or none: S-31).

        Raises BadRequest, DeviceAlreadyExists, QuotaExceeded.
        """
        check_id(wanted.device_id)
        if (await self._store.count()).total >= self._limits.identities:
            raise QuotaExceeded(reason=f"the hub holds {self._limits.identities} identities")
        generation = self._generation()
        identity = msgspec.structs.replace(
            _with_credentials(wanted, None),
            generation_id=generation,
            etag=_etag(),
            status_updated=0.0,
            connected=False,
            connection_updated=0.0,
            last_activity=0.0,
        )
        if identity.iot_edge:
            identity = msgspec.structs.replace(identity, device_scope=f"{_SCOPE}{identity.device_id}-{generation}")
        _check(identity)
        await self._store.create(_with_parent(identity, None))
        return identity

    async def update(self, wanted: Identity, etag: str, *, keep_authentication: bool = False) -> Identity:
        """Replace what may be written. keep_authentication: the request said nothing of it.

        Raises BadRequest, DeviceNotFound, PreconditionFailed. Disabling, and other credentials, cut live links.
        """
        for _ in range(_READ_AGAIN):
            stored = await self.get(wanted.device_id)
            if etag not in {"*", stored.etag}:
                raise PreconditionFailed
            identity = self._updated(stored, wanted, keep_authentication=keep_authentication)
            if await self._store.replace(identity, stored.etag):
                self._tell(stored, identity)
                return identity
            # another update came between; with "*" the newest is what is meant
        raise PreconditionFailed

    async def delete(self, device_id: str, etag: str = "*") -> None:
        """Raises DeviceNotFound, PreconditionFailed. Its modules go with it, its links are cut."""
        await self.get(device_id)
        if not await self._store.delete(device_id, "", None if etag == "*" else etag):
            await self.get(device_id)
            raise PreconditionFailed
        self._bus.publish("identity.changed", IdentityChange(device_id, "", "deleted"))

    async def list(self, top: int) -> Sequence[Identity]:
        """At most ``top`` devices by id. Raises BadRequest when ``top`` is not 1 to 1000."""
        if not 1 <= top <= LIST_TOP.value:
            raise BadRequest(f"top must be 1 to {LIST_TOP.value}.")
        return await self._store.list(top)

    async def count(self) -> IdentityCount:
        return await self._store.count()

    def _updated(self, stored: Identity, wanted: Identity, *, keep_authentication: bool) -> Identity:
        if keep_authentication:
            wanted = msgspec.structs.replace(
                wanted,
                authentication=stored.authentication,
                primary_key=stored.primary_key,
                secondary_key=stored.secondary_key,
                primary_thumbprint=stored.primary_thumbprint,
                secondary_thumbprint=stored.secondary_thumbprint,
            )
        else:
            wanted = _with_credentials(wanted, stored)
        if stored.iot_edge:
            if wanted.device_scope not in {"", stored.device_scope}:
                raise BadRequest("The scope of an edge device cannot be changed.")
            wanted = msgspec.structs.replace(wanted, device_scope=stored.device_scope)
        elif wanted.iot_edge:
            scope = f"{_SCOPE}{stored.device_id}-{stored.generation_id}"
            wanted = msgspec.structs.replace(wanted, device_scope=scope)
        changed = wanted.status != stored.status
        identity = msgspec.structs.replace(
            wanted,
            generation_id=stored.generation_id,
            etag=_etag(),
            status_updated=self._clock.now() if changed else stored.status_updated,
            connected=stored.connected,
            connection_updated=stored.connection_updated,
            last_activity=stored.last_activity,
        )
        _check(identity)
        return _with_parent(identity, stored)

    def _tell(self, before: Identity, after: Identity) -> None:
        if after.status == "disabled" and before.status != "disabled":
            self._bus.publish("identity.changed", IdentityChange(after.device_id, "", "disabled"))
        elif _credentials(before) != _credentials(after):
            self._bus.publish("identity.changed", IdentityChange(after.device_id, "", "credentials"))

    def _generation(self) -> str:
        """A count of 100 ns since year 1, never the same twice."""
        ticks = int(self._clock.now() * 10_000_000) + _TICKS_BEFORE_1970
        self._last_generation = max(ticks, self._last_generation + 1)
        return str(self._last_generation)


def check_id(device_id: str) -> None:
    """Raises BadRequest for an id that is too long or holds a character that no id may hold (L-I9)."""
    if not _ID.fullmatch(device_id):
        raise BadRequest(
            f"A device id has 1 to {IDENTITY_ID.value} letters, digits and any of - : . + % _ # * ? ! ( ) , = @ $ '"
        )


def _etag() -> str:
    return b64encode(str(secrets.randbelow(10**9) + 10**9).encode()).decode()


def _credentials(identity: Identity) -> tuple[object, ...]:
    return (
        identity.authentication,
        identity.primary_key,
        identity.secondary_key,
        identity.primary_thumbprint,
        identity.secondary_thumbprint,
    )


def _with_credentials(wanted: Identity, stored: Identity | None) -> Identity:
    """Fill in what the authentication type needs. Raises BadRequest for one key without the other."""
    if wanted.authentication != "sas":
        return msgspec.structs.replace(wanted, primary_key=None, secondary_key=None)
    if (wanted.primary_key is None) != (wanted.secondary_key is None):
        raise BadRequest("Give both symmetric keys or none.")
    cleared = msgspec.structs.replace(wanted, primary_thumbprint=None, secondary_thumbprint=None)
    if wanted.primary_key is not None:
        return cleared
    if stored is not None and stored.authentication == "sas":
        return msgspec.structs.replace(cleared, primary_key=stored.primary_key, secondary_key=stored.secondary_key)
    return msgspec.structs.replace(cleared, primary_key=new_key(), secondary_key=new_key())


def _with_parent(identity: Identity, stored: Identity | None) -> Identity:
    """A leaf's scope and its first parent scope are kept equal (service-protocols 2.3)."""
    if identity.iot_edge:
        return identity
    scope = identity.device_scope
    parents = identity.parent_scopes
    if stored is not None and scope == stored.device_scope and parents != stored.parent_scopes and parents:
        scope = parents[0]
    if not scope and parents:
        scope = parents[0]
    return msgspec.structs.replace(identity, device_scope=scope, parent_scopes=(scope,) if scope else ())


def _check(identity: Identity) -> None:
    if identity.status_reason is not None and len(identity.status_reason) > STATUS_REASON.value:
        raise BadRequest(f"statusReason may have {STATUS_REASON.value} characters.")
    thumbprints = (identity.primary_thumbprint, identity.secondary_thumbprint)
    if any(each is not None and not _THUMBPRINT.fullmatch(each) for each in thumbprints):
        raise BadRequest("A thumbprint must have 40 or 64 hexadecimal digits.")
    if identity.authentication == "selfSigned" and identity.primary_thumbprint is None:
        raise BadRequest("A self-signed device needs a primary thumbprint.")
    for scope in (identity.device_scope, *identity.parent_scopes):
        if scope and not scope.startswith(_SCOPE):
            raise BadRequest("The device scope is not valid.")
