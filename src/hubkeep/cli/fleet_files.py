"""``hubkeep export`` and ``hubkeep import``: a fleet as a file, one identity with its keys and twin a line.

The format is that of import and export jobs (service-protocols 2.9), so that files move between hubs of any make. State
files, the other format, are in ``state_files``.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from .client import HubClient
from .failure import CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_json, print_plain, progress_bar
from .state_files import (
    STATE_MODES,
    Parents,
    configurations_of,
    configurations_to_state,
    device_to_state,
    put_configuration,
    records_of,
    state_of,
)

_PAGE: Final = 1000
_RECORDS: Final = 100  # of one request
_REQUEST_BYTES: Final = 900_000  # below what a service takes as a body
_LINE_BYTES: Final = 1_000_000

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="One JSON record a line.")]


def export_fleet(
    file: FileArgument,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Leave symmetric keys out.")] = False,
    as_state: Annotated[
        bool, typer.Option("--state", help="As a state file of 'az iot hub state', configurations included.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write every device and module with its keys and twin to a file that only you can read.

    What was cut short goes on where it stopped when the command is given again; a state file begins anew.
    """
    part = file.with_name(f"{file.name}.part")
    if as_state:
        _export_state(file, part, no_keys=no_keys, data=data, connection_string=connection_string, as_json=as_json)
        return
    with client_of(data, connection_string) as client, _opened(part) as out:
        devices, modules, after = _written_already(out, part)
        if after and not as_json:
            print_plain(f"going on behind {after}")
        total = int(client.get("/statistics/devices")["totalDeviceCount"])
        with progress_bar("exported", total) as (progress, task):
            while records := client.get("/api/identities", after=after, most=_PAGE, keys=str(not no_keys).lower()):
                out.write(b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in records))
                out.flush()
                of_modules = sum("moduleId" in each for each in records)
                devices, modules = devices + len(records) - of_modules, modules + of_modules
                after = _name(records[-1])
                progress.update(task, completed=devices)
        os.fsync(out.fileno())
    part.replace(file)
    if as_json:
        print_json({"file": str(file), "devices": devices, "modules": modules})
    else:
        print_plain(f"{devices} devices and {modules} modules are in {file}{'' if no_keys else ', with their keys'}")


def _export_state(
    file: Path, part: Path, *, no_keys: bool, data: Path, connection_string: str | None, as_json: bool
) -> None:
    devices = modules = 0
    with client_of(data, connection_string) as client, _opened(part) as out:
        out.truncate()
        configurations = configurations_to_state(client.get("/configurations"))
        out.write(b'{"configurations": ' + _text(configurations) + b', "devices": {')
        total = int(client.get("/statistics/devices")["totalDeviceCount"])
        with progress_bar("exported", total) as (progress, task):
            for records in _devices(client, keys=not no_keys):
                out.write(
                    (b", " if devices else b"") + _text(records[0]["id"]) + b": " + _text(device_to_state(records))
                )
                devices, modules = devices + 1, modules + len(records) - 1
                progress.update(task, completed=devices)
        out.write(b"}}\n")
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    kept = sum(map(len, configurations.values()))
    if as_json:
        print_json({"file": str(file), "devices": devices, "modules": modules, "configurations": kept})
    else:
        print_plain(f"{devices} devices, {modules} modules and {kept} configurations are in {file}")


def _devices(client: HubClient, *, keys: bool) -> Iterator[list[dict[str, Any]]]:
    """The records of each device: itself, and its modules."""
    after = ""
    held: list[dict[str, Any]] = []
    while page := client.get("/api/identities", after=after, most=_PAGE, keys=str(keys).lower()):
        for record in page:
            if held and record["id"] != held[0]["id"]:
                yield held
                held = []
            held.append(record)
        after = _name(page[-1])
    if held:
        yield held


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def import_fleet(
    file: FileArgument,
    mode: Annotated[
        str | None,
        typer.Option(help="create, update, createOrUpdate, delete ...: of records that name none themselves."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register what a file holds: devices, modules, their keys and twins.

    The file has one record a line, or is a state file of 'az iot hub state'. Records that are refused are written to
    FILE.errors. What was cut short goes on where it stopped when the command is given again; a state file is done anew.
    """
    errors = file.with_name(f"{file.name}.errors")
    if (found := state_of(file)) is not None:
        with client_of(data, connection_string) as client:
            count, refused = _import_state(client, found, errors, mode)
        _told(count, refused, errors, as_json=as_json)
        return
    state = _ImportState(file)
    with client_of(data, connection_string) as client, progress_bar("bytes", state.size) as (progress, task):
        if state.offset and not as_json:
            print_plain(f"going on behind line {state.lines}")
        elif not state.offset:
            errors.unlink(missing_ok=True)
        for records, offset, lines in _batches(file, state.offset, state.lines, mode):
            refused = client.bulk(records)["errors"]
            if refused:
                with errors.open("a", encoding="utf-8") as out:
                    out.writelines(json.dumps(each, ensure_ascii=False) + "\n" for each in refused)
            state.keep(offset, lines, len(records), len(refused))
            progress.update(task, completed=offset)
    state.forget()
    _told(state.records, state.refused, errors, as_json=as_json)


def _import_state(client: HubClient, state: Mapping[str, Any], errors: Path, mode: str | None) -> tuple[int, int]:
    """Carry out what a state file holds; records, and how many of them were refused."""
    if mode is not None and mode.lower() not in map(str.lower, STATE_MODES):
        raise CommandFailure(f"a state file is not imported in the mode {mode}", f"one of {', '.join(STATE_MODES)}")
    levels, configurations, parents = list(records_of(state)), configurations_of(state), Parents(client)
    total = sum(map(len, levels)) + len(configurations)
    refused: list[dict[str, Any]] = []
    with progress_bar("records", total) as (progress, task):
        for level in levels:
            for batch in _small(level):
                placed = [parents.placed(each) for each in batch]
                if mode is not None:
                    placed = [{"importMode": mode, **each} for each in placed]
                refused += client.bulk(placed)["errors"]
                progress.advance(task, len(batch))
        for each in configurations:
            try:
                put_configuration(client, each, mode or "createOrUpdate")
            except CommandFailure as failure:
                refused.append({"configurationId": each.get("id"), "errorStatus": failure.cause})
            progress.advance(task)
    errors.unlink(missing_ok=True)
    if refused:
        errors.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in refused), encoding="utf-8")
    return total, len(refused)


def _small(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Records for one request each."""
    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        length = len(_text(record))
        if len(batch) == _RECORDS or (batch and size + length > _REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def _told(records: int, refused: int, errors: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"records": records, "refused": refused})
    else:
        print_plain(f"{records - refused} of {records} records are carried out")
    if refused:
        raise CommandFailure(f"{refused} of {records} records were refused", f"{errors} says why")


class _ImportState:
    """How far an import came; beside the file until it is done. Another file, or a changed one, begins anew."""

    def __init__(self, file: Path) -> None:
        self._path = file.with_name(f"{file.name}.progress")
        try:
            stat = file.stat()
        except OSError as error:
            raise CommandFailure(f"{file} cannot be read: {error.strerror}") from None
        self.size = stat.st_size
        self._of = {"size": stat.st_size, "modified": stat.st_mtime_ns}
        self.offset = self.lines = self.records = self.refused = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stored = json.loads(self._path.read_text())
            if {name: stored[name] for name in self._of} == self._of:
                self.offset, self.lines = int(stored["offset"]), int(stored["lines"])
                self.records, self.refused = int(stored["records"]), int(stored["refused"])

    def keep(self, offset: int, lines: int, records: int, refused: int) -> None:
        self.offset, self.lines = offset, lines
        self.records, self.refused = self.records + records, self.refused + refused
        values = {"offset": offset, "lines": lines, "records": self.records, "refused": self.refused}
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps({**self._of, **values}))
        new.replace(self._path)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def _batches(file: Path, offset: int, lines: int, mode: str | None) -> Iterator[tuple[list[Any], int, int]]:
    """Records for one request each, and the bytes and lines of the file up to their end. Raises CommandFailure."""
    records: list[Any] = []
    size = 0
    names: set[str] = set()
    with file.open("rb") as source:
        source.seek(offset)
        while line := source.readline(_LINE_BYTES + 1):
            record = _record(file, line, lines + 1, mode)
            name = _name(record)
            # a request that names an identity twice is refused; a file may, and means it in this order
            if len(records) == _RECORDS or (records and size + len(line) > _REQUEST_BYTES) or name in names:
                yield records, offset, lines
                records, size, names = [], 0, set()
            if record:
                records.append(record)
                names.add(name)
            offset, lines, size = offset + len(line), lines + 1, size + len(line)
    if records:
        yield records, offset, lines


def _record(file: Path, line: bytes, number: int, mode: str | None) -> dict[str, Any]:
    """Empty for an empty line."""
    if not line.strip():
        return {}
    if len(line) > _LINE_BYTES:
        raise CommandFailure(f"{file}, line {number}: longer than {_LINE_BYTES} bytes")
    try:
        record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise CommandFailure(f"{file}, line {number}: not a JSON object", "the file has one record a line")
    if mode is not None:
        record.setdefault("importMode", mode)
    return record


def _name(record: dict[str, Any]) -> str:
    """``device`` or ``device/module``. No id holds a slash."""
    module = record.get("moduleId")
    return f"{record.get('id', '')}/{module}" if module else str(record.get("id", ""))


@contextlib.contextmanager
def _opened(part: Path) -> Iterator[BinaryIO]:
    """For reading and appending, by its owner alone: it holds keys."""
    try:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CommandFailure(f"{part} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "r+b") as out:
        os.fchmod(handle, 0o600)
        yield out


def _written_already(out: BinaryIO, part: Path) -> tuple[int, int, str]:
    """Devices, modules and the last name of an export that was cut short; ``out`` then stands behind them."""
    devices = modules = end = 0
    after = ""
    for line in out:
        if not line.endswith(b"\n"):
            break  # torn
        try:
            record = json.loads(line)
            after = _name(record)
        except (ValueError, AttributeError):
            raise CommandFailure(f"{part} is not the beginning of an export", f"delete {part}") from None
        modules, devices = modules + ("moduleId" in record), devices + ("moduleId" not in record)
        end += len(line)
    out.seek(end)
    out.truncate()
    return devices, modules, after
