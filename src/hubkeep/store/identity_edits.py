"""Many changes of identities in one transaction: read at once, edited in memory, written by what differs in the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, delete, select, tuple_, update
from sqlalchemy import bindparam as bind
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError
from hubkeep.model import HubEvent, Identity, Twin, TwinChange
from hubkeep.ports import Held, IdentityEdit, Kept

from .connection_events import connected_among
from .many_rows import execute_rows, insert_rows
from .outbox import SqlOutbox
from .queues import delete_queues_of
from .tables import DEVICE_COUNT, IDENTITY, TWIN
from .twins import delete_leaves_of, insert_twins, stored_twins, write_twins
from .writer import Row

Key = tuple[str, str]  # device id, module id

_NOT_WRITABLE: Final = ("generation_id", "connected", "connection_updated", "last_activity")
_WRITTEN: Final = tuple(
    column.name for column in IDENTITY.columns if column.name not in {"device_id", "module_id", *_NOT_WRITABLE}
)
_UPDATE: Final = (
    update(IDENTITY)
    .where(IDENTITY.c.device_id == bind("of_device"), IDENTITY.c.module_id == bind("of_module"))
    .values({name: bind(name) for name in _WRITTEN})
)
_OF_DEVICES: Final = select(IDENTITY).where(IDENTITY.c.device_id.in_(bind("devices", expanding=True)))
_AT_ONCE: Final = 500  # identities that one statement names
_TOTAL: Final = select(DEVICE_COUNT.c.total)
_COUNTED: Final = ("total", "disabled", "connected")
_COUNT: Final = update(DEVICE_COUNT).values({name: DEVICE_COUNT.c[name] + bind(f"more_{name}") for name in _COUNTED})
_DELETE_DEVICE: Final = delete(IDENTITY).where(IDENTITY.c.device_id == bind("of_device"))
_DELETE_MODULE: Final = _DELETE_DEVICE.where(IDENTITY.c.module_id == bind("of_module"))


class Codec(NamedTuple):
    """Between identities and rows; keys are sealed in rows."""

    row: Callable[[Identity], Row]
    identity: Callable[[Row], Identity]


async def edit_identities(
    connection: AsyncConnection, edits: Sequence[IdentityEdit], codec: Codec, outbox: SqlOutbox
) -> list[tuple[Held, Kept] | HubError]:
    """See ports.IdentityStore.edit."""
    state = await _read(connection, edits, codec)
    outcomes: list[tuple[Held, Kept] | HubError] = []
    for each in edits:
        held = state.held(each)
        try:
            kept = each.edit(held)
        except HubError as error:
            outcomes.append(error)
            continue
        state.keep((each.device_id, each.module_id), kept)
        outcomes.append((held, kept))
    await _write(connection, state, codec, outbox)
    return outcomes


class _State:
    """What was stored, and what is to be."""

    def __init__(
        self, identities: Mapping[Key, Identity], others: set[Key], twins: Mapping[Key, Twin], devices: int
    ) -> None:
        """others: modules of these devices that no edit names. devices: of the hub."""
        self.before, self.now, self._others = identities, dict(identities), others
        self.twins_before = twins
        self.twins: dict[Key, Twin] = {}  # those that are written
        self.changes: dict[Key, TwinChange] = {}
        self._devices = devices
        self._modules = Counter(device_id for device_id, module_id in (*identities, *others) if module_id)

    def held(self, edit: IdentityEdit) -> Held:
        device_id, module_id = key = edit.device_id, edit.module_id
        return Held(
            identity=self.now.get(key),
            twin=self._twin(key) if edit.wants_twin and key in self.now else None,
            siblings=self._modules[device_id] if module_id else self._devices,
            has_device=(device_id, "") in self.now,
        )

    def _twin(self, key: Key) -> Twin:
        # an edge device's own module may be as new as the device, and named by a record behind it
        fresh = Twin(device_id=key[0], module_id=key[1])
        return self.twins.get(key) or self.twins_before.get(key) or fresh

    def keep(self, key: Key, kept: Kept) -> None:
        if kept.identity is None:
            self._remove(key)
            return
        self._put(key, kept.identity)
        if kept.change is not None:
            self.twins[key] = kept.change.twin
            self.changes[key] = kept.change
        elif kept.twin is not None:
            self.twins[key] = kept.twin
        for module in kept.modules:
            of = module.device_id, module.module_id
            if of not in self.now and of not in self._others:
                self._put(of, module)

    def _put(self, key: Key, identity: Identity) -> None:
        if key not in self.now:
            self._add(key, 1)
        self.now[key] = identity

    def _remove(self, key: Key) -> None:
        gone = [key] if key[1] else [each for each in self.now if each[0] == key[0]]
        for each in gone:
            del self.now[each]
            self.twins.pop(each, None)
            self.changes.pop(each, None)
            self._add(each, -1)
        if not key[1]:
            self._modules[key[0]] = 0
            self._others = {each for each in self._others if each[0] != key[0]}

    def _add(self, key: Key, number: int) -> None:
        if key[1]:
            self._modules[key[0]] += number
        else:
            self._devices += number


async def _read(connection: AsyncConnection, edits: Sequence[IdentityEdit], codec: Codec) -> _State:
    keys = {(each.device_id, each.module_id) for each in edits}
    devices = {device_id for device_id, _ in keys}
    identities: dict[Key, Identity] = {}
    others: set[Key] = set()
    for row in (await connection.execute(_OF_DEVICES, {"devices": list(devices)})).mappings():
        key = row["device_id"], row["module_id"]
        if key in keys or not key[1]:
            identities[key] = codec.identity(dict(row))
        else:
            others.add(key)
    wanted = {(each.device_id, each.module_id) for each in edits if each.wants_twin} & identities.keys()
    twins = await stored_twins(connection, wanted) if wanted else {}
    total = (await connection.execute(_TOTAL)).scalar_one()
    return _State(identities, others, twins, total)


async def _write(connection: AsyncConnection, state: _State, codec: Codec, outbox: SqlOutbox) -> None:
    before, now = state.before, state.now
    events: list[HubEvent] = []
    gone = [key for key in before if key not in now]
    if gone:
        among = tuple_(IDENTITY.c.device_id, IDENTITY.c.module_id)
        for start in range(0, len(gone), _AT_ONCE):
            were = await connected_among(connection, among.in_(gone[start : start + _AT_ONCE]), outbox)
            events += outbox.tells.deleted((), were)
        events += outbox.tells.deleted(await _delete(connection, gone))
    made = [key for key in now if key not in before]
    if made:
        # a device before its modules
        await insert_rows(connection, IDENTITY, [codec.row(now[key]) for key in sorted(made, key=_is_module)])
        fresh = [state.twins.get(key) or Twin(device_id=key[0], module_id=key[1]) for key in made]
        await insert_twins(connection, fresh)
        events += outbox.tells.created(fresh)
    changed = [key for key, identity in now.items() if key in before and identity is not before[key]]
    if changed:
        await execute_rows(connection, _UPDATE, [_values(codec.row(now[key])) for key in changed])
    written = [key for key in state.changes if key in before]
    if written:
        await write_twins(connection, [(state.twins_before[key], state.twins[key]) for key in written])
        for key in written:
            events += outbox.tells.twin_changed(state.twins_before[key], state.changes[key])
    await outbox.put(connection, events)
    await _count(connection, before.values(), now.values())


def _is_module(key: Key) -> bool:
    return bool(key[1])


def _values(row: Row) -> Row:
    values = {name: row[name] for name in _WRITTEN}
    return {**values, "of_device": row["device_id"], "of_module": row["module_id"]}


async def _delete(connection: AsyncConnection, gone: Sequence[Key]) -> list[Twin]:
    """The twins that went with them."""
    twins: list[Twin] = []
    devices = [device_id for device_id, module_id in gone if not module_id]
    modules = [key for key in gone if key[1] and key[0] not in set(devices)]
    if devices:
        twins += await delete_leaves_of(connection, TWIN.c.device_id.in_(devices))
        await execute_rows(connection, _DELETE_DEVICE, [{"of_device": each} for each in devices])
        await delete_queues_of(connection, [(device_id, None) for device_id in devices])
    if modules:
        of_modules: ColumnElement[bool] = tuple_(TWIN.c.device_id, TWIN.c.module_id).in_(modules)
        twins += await delete_leaves_of(connection, of_modules)
        await execute_rows(connection, _DELETE_MODULE, [{"of_device": key[0], "of_module": key[1]} for key in modules])
        await delete_queues_of(connection, modules)
    return twins


async def _count(connection: AsyncConnection, before: Iterable[Identity], now: Iterable[Identity]) -> None:
    old, new = _counts(before), _counts(now)
    if old != new:
        await connection.execute(_COUNT, {f"more_{name}": new[name] - old[name] for name in _COUNTED})


def _counts(identities: Iterable[Identity]) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in identities:
        if not each.module_id:
            found.update(total=1, disabled=int(each.status == "disabled"), connected=int(each.connected))
    return found


def identity_context(device_id: str, module_id: str, key: str) -> str:
    """What a sealed key belongs to: it cannot be moved to another identity or place. No id holds a slash."""
    return f"identity/{device_id}/{module_id}/{key}"
