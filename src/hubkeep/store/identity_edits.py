"""Many changes of identities in one transaction: read at once, edited in memory, written by what differs in the end."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from hubkeep.errors import HubError
from hubkeep.model import HubEvent, Identity, Twin, TwinChange
from hubkeep.ports import Held, IdentityEdit, Kept

from .many_rows import insertions
from .outbox import SqlOutbox
from .queues import deleting_queues
from .tables import IDENTITY
from .twins import inserting, stored_twins, twins_of_devices, unindexing, writing
from .writer import Prepared, Row, Select

Key = tuple[str, str]  # device id, module id

_NOT_WRITABLE: Final = ("generation_id", "connected", "connection_updated", "last_activity")
_COLUMNS: Final = tuple(column.name for column in IDENTITY.columns)
_WRITTEN: Final = tuple(name for name in _COLUMNS if name not in {"device_id", "module_id", *_NOT_WRITABLE})
_OF_IDENTITY: Final = "WHERE device_id = ? AND module_id = ?"
_AMONG: Final = "WHERE device_id IN (SELECT value FROM json_each(?))"
_UPDATE: Final = f"UPDATE identity SET {', '.join(f'{name} = ?' for name in _WRITTEN)} {_OF_IDENTITY}"  # noqa: S608  # column names
_OF_DEVICES: Final = f"SELECT {', '.join(_COLUMNS)} FROM identity {_AMONG}"  # noqa: S608  # column names
_TOTAL: Final = "SELECT total + modules FROM device_count"
_COUNTED: Final = ("total", "disabled", "connected", "modules")
_COUNT: Final = f"UPDATE device_count SET {', '.join(f'{name} = {name} + ?' for name in _COUNTED)}"  # noqa: S608  # column names
_DELETE_DEVICES: Final = f"DELETE FROM identity {_AMONG}"  # noqa: S608  # no value
_DELETE_MODULE: Final = f"DELETE FROM identity {_OF_IDENTITY}"  # noqa: S608  # no value

_Outcomes = list[tuple[Held, Kept] | HubError]


class Codec(NamedTuple):
    """Between identities and rows; keys are sealed in rows."""

    row: Callable[[Identity], Row]
    identity: Callable[[Row], Identity]


def edited(
    select: Select, edits: Sequence[IdentityEdit], codec: Codec, outbox: SqlOutbox, dialect: Dialect
) -> tuple[_Outcomes, list[Prepared]]:
    """See ports.IdentityStore.edit: what becomes of each, and what must be written for all."""
    state = _read(select, edits, codec)
    outcomes: _Outcomes = []
    for each in edits:
        held = state.held(each)
        try:
            kept = each.edit(held)
        except HubError as error:
            outcomes.append(error)
            continue
        state.keep((each.device_id, each.module_id), kept)
        outcomes.append((held, kept))
    return outcomes, _written(select, state, codec, outbox, dialect)


async def edit_identities(
    connection: AsyncConnection, edits: Sequence[IdentityEdit], codec: Codec, outbox: SqlOutbox
) -> _Outcomes:
    """``edited`` in the transaction that is open on ``connection``."""

    def work(within: Connection) -> _Outcomes:
        def select(text: str, values: Sequence[Any]) -> Sequence[Any]:
            return [tuple(row) for row in within.exec_driver_sql(text, tuple(values))]

        outcomes, statements = edited(select, edits, codec, outbox, within.dialect)
        for text, rows in statements:
            within.exec_driver_sql(text, list(rows))
        return outcomes

    return await connection.run_sync(work)


class _State:
    """What was stored, and what is to be."""

    def __init__(
        self, identities: Mapping[Key, Identity], others: set[Key], twins: Mapping[Key, Twin], of_hub: int
    ) -> None:
        """others: modules of these devices that no edit names. of_hub: devices and modules in all."""
        self.before, self.now, self._others = identities, dict(identities), others
        self.twins_before = twins
        self.twins: dict[Key, Twin] = {}  # those that are written
        self.changes: dict[Key, TwinChange] = {}
        self._of_hub = of_hub
        self.more_modules = 0
        self._modules = Counter(device_id for device_id, module_id in (*identities, *others) if module_id)

    def held(self, edit: IdentityEdit) -> Held:
        device_id, module_id = key = edit.device_id, edit.module_id
        return Held(
            identity=self.now.get(key),
            twin=self._twin(key) if edit.wants_twin and key in self.now else None,
            siblings=self._modules[device_id] if module_id else 0,
            has_device=(device_id, "") in self.now,
            of_hub=self._of_hub,
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
            others = {each for each in self._others if each[0] == key[0]}
            for each in others:
                self._add(each, -1)
            self._others -= others

    def _add(self, key: Key, number: int) -> None:
        self._of_hub += number
        if key[1]:
            self._modules[key[0]] += number
            self.more_modules += number


def _read(select: Select, edits: Sequence[IdentityEdit], codec: Codec) -> _State:
    keys = {(each.device_id, each.module_id) for each in edits}
    devices = {device_id for device_id, _ in keys}
    identities: dict[Key, Identity] = {}
    others: set[Key] = set()
    for row in select(_OF_DEVICES, (_json(devices),)):
        key = row[:2]
        if key in keys or not key[1]:
            identities[key] = codec.identity(dict(zip(_COLUMNS, row, strict=True)))
        else:
            others.add(key)
    wanted = {(each.device_id, each.module_id) for each in edits if each.wants_twin} & identities.keys()
    twins = stored_twins(select, wanted) if wanted else {}
    ((total,),) = select(_TOTAL, ())
    return _State(identities, others, twins, total)


def _written(select: Select, state: _State, codec: Codec, outbox: SqlOutbox, dialect: Dialect) -> list[Prepared]:
    before, now, tells = state.before, state.now, outbox.tells
    statements: list[Prepared] = []
    events: list[HubEvent] = []
    gone = [key for key in before if key not in now]
    if gone:
        if tells.wants("deviceConnectionStateEvents"):
            events += tells.deleted((), [key for key in gone if before[key].connected])
        twins, deletions = _deleted(select, gone)
        statements += deletions
        events += tells.deleted(twins)
    made = [key for key in now if key not in before]
    if made:
        made.sort(key=_is_module)  # a device before its modules
        statements += insertions(IDENTITY, [tuple(codec.row(now[key]).values()) for key in made])
        fresh = [state.twins.get(key) or Twin(device_id=key[0], module_id=key[1]) for key in made]
        statements += inserting(fresh)
        events += tells.created(fresh)
    changed = [key for key, identity in now.items() if key in before and identity is not before[key]]
    if changed:
        statements.append(Prepared(_UPDATE, [_values(codec.row(now[key])) for key in changed]))
    written = [key for key in state.changes if key in before]
    if written:
        statements += writing([(state.twins_before[key], state.twins[key]) for key in written])
        for key in written:
            events += tells.twin_changed(state.twins_before[key], state.changes[key])
    return [
        *statements,
        *outbox.prepared(events, dialect),
        *_counted(before.values(), now.values(), state.more_modules),
    ]


def _is_module(key: Key) -> bool:
    return bool(key[1])


def _values(row: Row) -> tuple[Any, ...]:
    return (*(row[name] for name in _WRITTEN), row["device_id"], row["module_id"])


def _deleted(select: Select, gone: Sequence[Key]) -> tuple[list[Twin], list[Prepared]]:
    """The twins that go with them, and what deletes all."""
    devices = [device_id for device_id, module_id in gone if not module_id]
    whole = set(devices)
    modules = [key for key in gone if key[1] and key[0] not in whole]
    twins = [*(twins_of_devices(select, devices) if devices else ())]
    twins += stored_twins(select, set(modules)).values() if modules else ()
    statements = unindexing(twins)
    if devices:
        statements.append(Prepared(_DELETE_DEVICES, [(_json(devices),)]))
    if modules:
        statements.append(Prepared(_DELETE_MODULE, modules))
    return twins, [*statements, *deleting_queues(devices, modules)]


def _counted(before: Iterable[Identity], now: Iterable[Identity], more_modules: int) -> Sequence[Prepared]:
    more = (*map(int.__sub__, _counts(now), _counts(before)), more_modules)
    return [Prepared(_COUNT, [more])] if any(more) else ()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _counts(identities: Iterable[Identity]) -> tuple[int, int, int]:
    """As ``_COUNTED``, without modules: not all of them are at hand."""
    devices = [each for each in identities if not each.module_id]
    return len(devices), sum(each.status == "disabled" for each in devices), sum(each.connected for each in devices)


def identity_context(device_id: str, module_id: str, key: str) -> str:
    """What a sealed key belongs to: it cannot be moved to another identity or place. No id holds a slash."""
    return f"identity/{device_id}/{module_id}/{key}"
