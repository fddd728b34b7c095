"""Device and module identities: create, read, update, delete, list. Source: service-protocols 2.3, 2.4, 2.7."""

import asyncio
import contextlib
import itertools
import re
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final, cast, get_args

import msgspec

from hubkeep.errors import (
    BadRequest,
    DeviceNotFound,
    ModuleAlreadyExists,
    ModuleNotFound,
    PreconditionFailed,
    QuotaExceeded,
    ServerBusy,
    TooManyModules,
)
from hubkeep.limits import IDENTITY_ID, LIST_TOP, STATUS_REASON, Limits
from hubkeep.model import (
    SYSTEM_MODULES,
    AuthenticationType,
    IdentitiesCreated,
    Identity,
    IdentityChange,
    KeySlot,
    Status,
)
from hubkeep.ports import Bus, Clock, IdentityCount, IdentityStore

from .keys import check_key, new_key

ID: Final = re.compile(rf"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{{1,{IDENTITY_ID.value}}}")
_THUMBPRINT: Final = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_THUMBPRINT_TEXT: Final = 256  # characters, separators counted
_SEPARATORS: Final = str.maketrans("", "", ": ")
SCOPE: Final = "ms-azure-iot-edge://"
_SCOPE_LENGTH: Final = 256  # an id, a generation id and the scheme fit
_TICKS_BEFORE_1970: Final = 621_355_968_000_000_000
_READ_AGAIN: Final = 4
_ETAGS: Final = itertools.count(secrets.randbelow(10**15) + 10**12)
_STATUSES: Final[tuple[str, ...]] = get_args(Status)
_AUTHENTICATION_TYPES: Final[Mapping[str, AuthenticationType]] = {
    known.lower(): known for known in get_args(AuthenticationType)
}


class Identities:
    """The registry's rules. ``etag`` arguments: a stored etag, or ``*`` for any."""

    def __init__(self, store: IdentityStore, bus: Bus, clock: Clock, limits: Limits) -> None:
        self._store, self._bus, self._clock, self._limits = store, bus, clock, limits
        self._last_generation = 0
        self.creating = asyncio.Lock()  # counting and creating are one step, or the quota could be passed

    async def get(self, device_id: str, module_id: str = "") -> Identity:
        """Raises DeviceNotFound, ModuleNotFound, BadRequest for an id that cannot be one."""
        check_id(device_id)
        identity = await self._store.get(device_id, module_id)
        if identity is None:
            if module_id and await self._store.get(device_id) is not None:
                raise ModuleNotFound
            raise DeviceNotFound
        return identity

    async def create(self, wanted: Identity) -> Identity:
        """Register a device or module; two keys are made where a ``sas`` identity brings none.

        An edge device gets its system modules with it. Raises BadRequest, DeviceAlreadyExists, QuotaExceeded; for a
        module DeviceNotFound, ModuleAlreadyExists, TooManyModules.
        """
        identity = self.fresh(wanted)
        system_modules = self.system_modules(identity) if identity.iot_edge else ()
        async with self.creating:
            await self._check_quota(identity)
            await self._store.create(identity, *system_modules)
        self.tell_created([identity, *system_modules])
        return identity

    async def update(self, wanted: Identity, etag: str, *, keep_authentication: bool = False) -> Identity:
        """Replace all that may be written. keep_authentication: the request said nothing of it.

        A ``sas`` device that brings no keys gets new ones. Disabling, and other credentials, cut live links.
        Raises BadRequest, DeviceNotFound, PreconditionFailed.
        """
        check_ids(wanted)
        if not keep_authentication:
            wanted = with_credentials(wanted)
        for _ in range(_READ_AGAIN):
            stored = await self.get(wanted.device_id, wanted.module_id)
            if etag not in {"*", stored.etag}:
                raise PreconditionFailed
            identity = self.updated(stored, wanted, keep_authentication=keep_authentication)
            if await self._store.replace(identity, stored.etag):
                self.tell(stored, identity)
                if identity.iot_edge and not stored.iot_edge:
                    await self._ensure_system_modules(identity)
                return identity
            # another update came between; with "*" the newest is what is meant
        raise ServerBusy(reason=f"{wanted.name} is being updated from many sides")

    async def delete(self, device_id: str, etag: str = "*", module_id: str = "") -> None:
        """Raises DeviceNotFound, ModuleNotFound, PreconditionFailed. A device's modules go with it; links are cut."""
        await self.get(device_id, module_id)
        if not await self._store.delete(device_id, module_id, None if etag == "*" else etag):
            await self.get(device_id, module_id)
            raise PreconditionFailed
        self._bus.publish("identity.changed", IdentityChange(device_id, module_id, "deleted"))

    async def modules(self, device_id: str) -> Sequence[Identity]:
        """The modules of a device by id. Raises DeviceNotFound."""
        await self.get(device_id)
        return await self._store.modules(device_id)

    async def ensure_module(self, device_id: str, module_id: str) -> None:
        """Register a module where it is not registered yet. Raises as ``create`` does."""
        if await self._store.get(device_id, module_id) is None:
            with contextlib.suppress(ModuleAlreadyExists):
                await self.create(Identity(device_id=device_id, module_id=module_id, managed_by="iotEdge"))

    async def list(self, top: int) -> Sequence[Identity]:
        """At most ``top`` devices by id. Raises BadRequest when ``top`` is not 1 to 1000."""
        if not 1 <= top <= LIST_TOP.value:
            raise BadRequest(f"top must be 1 to {LIST_TOP.value}.")
        return await self._store.list(top)

    async def count(self) -> IdentityCount:
        return await self._store.count()

    def fresh(self, wanted: Identity) -> Identity:
        """A new identity as it is to be stored. Raises BadRequest."""
        return self.made(checked(wanted))

    def made(self, wanted: Identity) -> Identity:
        """The same of one that ``checked`` gave."""
        fresh = msgspec.structs.replace(
            wanted,
            generation_id=self._generation(),
            etag=_etag(),
            status_updated=0.0,
            connected=False,
            connection_updated=0.0,
            last_activity=0.0,
        )
        return _with_scopes(fresh, None)

    async def _check_quota(self, identity: Identity) -> None:
        counted = await self._store.count()
        self.check_room(counted.total + counted.modules, identity)
        if identity.module_id and len(await self._store.modules(identity.device_id)) >= self._limits.modules_per_device:
            raise TooManyModules(remedy="delete some, or raise limits.modules_per_device")

    def check_room(self, of_hub: int, wanted: Identity) -> None:
        """Raises QuotaExceeded. of_hub: devices and modules that there are; an edge device brings modules with it."""
        if of_hub + 1 + len(SYSTEM_MODULES) * wanted.iot_edge > self._limits.identities:
            raise QuotaExceeded(
                reason=f"the hub holds {of_hub} devices and modules, of {self._limits.identities}",
                remedy="delete some, or raise limits.identities",
            )

    def system_modules(self, device: Identity) -> Sequence[Identity]:
        """What an edge device has from its beginning."""
        return [
            self.fresh(Identity(device_id=device.device_id, module_id=each, managed_by="iotEdge"))
            for each in SYSTEM_MODULES
        ]

    async def _ensure_system_modules(self, device: Identity) -> None:
        for module in self.system_modules(device):
            with contextlib.suppress(ModuleAlreadyExists, DeviceNotFound):
                await self._store.create(module)
                self.tell_created([module])

    def updated(self, stored: Identity, wanted: Identity, *, keep_authentication: bool = False) -> Identity:
        """``stored`` with all that may be written replaced, credentials made already. Raises BadRequest."""
        if keep_authentication:
            kept = dict(zip(_CREDENTIALS, _credentials(stored), strict=True))
            wanted = msgspec.structs.replace(wanted, **kept)
        _check(wanted)
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
        return _with_scopes(identity, stored)

    def tell_created(self, identities: Sequence[Identity]) -> None:
        """Say that they are there, durably: who looks after new ones need not search for them."""
        names = tuple((each.device_id, each.module_id) for each in identities)
        self._bus.publish("identity.created", IdentitiesCreated(names))

    def tell(self, before: Identity, after: Identity) -> None:
        """Cut the live links that a durable change leaves no right to be there."""
        if after.status == "disabled" and before.status != "disabled":
            self._bus.publish("identity.changed", IdentityChange(after.device_id, after.module_id, "disabled"))
        elif _credentials(before) != _credentials(after):
            change = IdentityChange(after.device_id, after.module_id, "credentials", _replaced_slots(before, after))
            self._bus.publish("identity.changed", change)

    def _generation(self) -> str:
        """A count of 100 ns since year 1, never the same twice."""
        ticks = int(self._clock.now() * 10_000_000) + _TICKS_BEFORE_1970
        self._last_generation = max(ticks, self._last_generation + 1)
        return str(self._last_generation)


def check_id(device_id: str) -> None:
    """Raises BadRequest for an id that is too long or holds a character that no id may hold (L-I9)."""
    if not ID.fullmatch(device_id):
        raise BadRequest(
            f"A device id has 1 to {IDENTITY_ID.value} characters: "
            "letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '"
        )


def check_ids(identity: Identity) -> None:
    check_id(identity.device_id)
    if identity.module_id:
        check_id(identity.module_id)


def authentication_type(given: str | None, primary_thumbprint: str | None) -> AuthenticationType:
    """The type that a request means; absent, a thumbprint means ``selfSigned``, else ``sas``. Raises BadRequest."""
    if not given:
        return "selfSigned" if primary_thumbprint else "sas"
    known = _AUTHENTICATION_TYPES.get(given.lower())
    if known is None:
        raise BadRequest(f"The authentication types are: {', '.join(_AUTHENTICATION_TYPES.values())}.")
    return known


def status_from_text(given: str | None) -> Status:
    """``enabled`` or ``disabled`` in any case; absent means enabled. Raises BadRequest."""
    status = (given or "enabled").lower()
    if status not in _STATUSES:
        raise BadRequest("The status is enabled or disabled.")
    return cast("Status", status)


def checked(wanted: Identity) -> Identity:
    """What a request wants, with credentials made where it brings none. Raises BadRequest."""
    check_ids(wanted)
    wanted = with_credentials(wanted)
    _check(wanted)
    return wanted


_CREDENTIALS: Final = (
    "authentication",
    "primary_key",
    "secondary_key",
    "primary_thumbprint",
    "secondary_thumbprint",
)


def _credentials(identity: Identity) -> tuple[object, ...]:
    return tuple(getattr(identity, name) for name in _CREDENTIALS)


def _replaced_slots(before: Identity, after: Identity) -> tuple[KeySlot, ...]:
    """Which one of two was replaced; none named: both, or they changed places, or it is no matter of slots."""
    if before.authentication != after.authentication:
        return ()
    primary = (before.primary_key, before.primary_thumbprint) != (after.primary_key, after.primary_thumbprint)
    secondary = (before.secondary_key, before.secondary_thumbprint) != (after.secondary_key, after.secondary_thumbprint)
    return () if primary == secondary else ("primary",) if primary else ("secondary",)


def with_credentials(wanted: Identity) -> Identity:
    """Only what the authentication type uses, keys made if it brings none. Raises BadRequest."""
    replace = msgspec.structs.replace
    if wanted.authentication != "selfSigned":
        if wanted.primary_thumbprint is not None or wanted.secondary_thumbprint is not None:
            wanted = replace(wanted, primary_thumbprint=None, secondary_thumbprint=None)
    else:
        prints = (wanted.primary_thumbprint or None, wanted.secondary_thumbprint or None)
        if prints[0] is None:
            raise BadRequest("A self-signed device needs a primary thumbprint.")
        primary_print, secondary_print = map(_normal_thumbprint, prints)
        wanted = replace(wanted, primary_thumbprint=primary_print, secondary_thumbprint=secondary_print)
    if wanted.authentication != "sas":
        return replace(wanted, primary_key=None, secondary_key=None)
    primary, secondary = wanted.primary_key or new_key(), wanted.secondary_key or new_key()
    if bool(wanted.primary_key) != bool(wanted.secondary_key):
        raise BadRequest("Give both symmetric keys or none.")
    check_key(primary, "The primary key")
    check_key(secondary, "The secondary key")
    if wanted.primary_key and wanted.secondary_key:
        return wanted
    return replace(wanted, primary_key=primary, secondary_key=secondary)


def _normal_thumbprint(given: str | None) -> str | None:
    """Upper case, without the colons and spaces that tools print. Raises BadRequest."""
    if given is None:
        return None
    digits = given.translate(_SEPARATORS).upper()
    if len(given) > _THUMBPRINT_TEXT or not _THUMBPRINT.fullmatch(digits):
        raise BadRequest("A thumbprint has 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.")
    return digits


def _check(wanted: Identity) -> None:
    if wanted.module_id and (wanted.status, wanted.iot_edge) != ("enabled", False):
        raise BadRequest("A module has no status and no capabilities of its own.")
    if wanted.status not in _STATUSES or wanted.authentication not in _AUTHENTICATION_TYPES.values():
        raise BadRequest("The status or the authentication type is not valid.")
    for text in (wanted.status_reason, wanted.managed_by):
        if text is not None and (len(text) > STATUS_REASON.value or not _is_text(text)):
            raise BadRequest(f"statusReason has at most {STATUS_REASON.value} characters.")
    if len(wanted.parent_scopes) > 1:
        raise BadRequest("A device has one parent scope at most.")
    for scope in (wanted.device_scope, *wanted.parent_scopes):
        if scope and not (scope.startswith(SCOPE) and len(scope) <= _SCOPE_LENGTH and scope.isascii()):
            raise BadRequest("The device scope is not valid.")


def _is_text(text: str) -> bool:
    # JSON may carry half a surrogate pair, which no store takes
    return text.isprintable() or not any("\ud800" <= character <= "\udfff" for character in text)


def _with_scopes(identity: Identity, stored: Identity | None) -> Identity:
    """The hub assigns an edge device's scope; a leaf's scope and its parent scope are kept equal."""
    if not (identity.iot_edge or identity.device_scope or identity.parent_scopes):
        return identity  # nearly all
    if identity.module_id:
        return msgspec.structs.replace(identity, device_scope="", parent_scopes=())
    own = f"{SCOPE}{identity.device_id}-{identity.generation_id}"
    if identity.iot_edge:
        return msgspec.structs.replace(identity, device_scope=own)
    scope = identity.device_scope if identity.device_scope != own else ""  # own: it was an edge device until now
    parent = next((each for each in identity.parent_scopes if each), "")
    # where the two differ, what differs from the stored one is what was meant
    if not scope or (parent and stored is not None and scope == stored.device_scope):
        scope = parent
    return msgspec.structs.replace(identity, device_scope=scope, parent_scopes=(scope,) if scope else ())


def _etag() -> str:
    """Another one each time; where they begin is by chance, so that a restart repeats none."""
    return b64encode(str(next(_ETAGS)).encode()).decode()
