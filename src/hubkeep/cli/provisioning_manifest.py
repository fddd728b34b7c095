"""The manifest of ``hubkeep provision``: one device a line, as CSV with a header or as JSON lines."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .certificate_files import read_file
from .failure import MISUSED, CommandFailure

_PLACE: Final = re.compile(r"\{([^{}]+)\}")
_OWN: Final = ("id", "certificate", "csr", "thumbprint", "primaryKey", "secondaryKey")


class ManifestDevice(NamedTuple):
    """What a manifest says of one device. certificate, csr: files. tags: what else it says, to be found by later."""

    id: str
    certificate: Path | None = None
    csr: Path | None = None
    thumbprint: str = ""
    primary_key: str = ""
    secondary_key: str = ""
    tags: Mapping[str, Any] = {}  # nobody writes to it


def read_manifest(file: Path, template: str) -> list[ManifestDevice]:
    """template: the id made of other columns (``press-{serial}``); empty: the column ``id``. Raises CommandFailure."""
    text = read_file(file).decode("utf-8-sig", errors="replace")
    rows = _json_rows(file, text) if text.lstrip().startswith("{") else _csv_rows(file, text)
    found: dict[str, ManifestDevice] = {}
    for number, row in rows:
        device = _device(row, template, file, number)
        if device.id in found:
            raise CommandFailure(f"{file}, line {number}: {device.id} is there twice", status=MISUSED)
        found[device.id] = device
    if not found:
        raise CommandFailure(f"there is no device in {file}", "CSV with a header, or one JSON object a line", MISUSED)
    return list(found.values())


def check_id(device_id: str, where: str) -> None:
    """An id is also the name of files. Raises CommandFailure."""
    if not device_id or any(each in device_id for each in "/\\\0"):
        raise CommandFailure(f"{where}: {device_id!r} is no id", "128 characters without slash", MISUSED)


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if None in row:
                raise CommandFailure(f"{file}, line {reader.line_num}: more values than columns", status=MISUSED)
            yield reader.line_num, {name.strip(): value for name, value in row.items() if value}
    except csv.Error as error:
        raise CommandFailure(f"{file}, line {reader.line_num}: {error}", status=MISUSED) from None


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CommandFailure(f"{file}, line {number}: not a JSON object", "one object a line", MISUSED)
        yield number, row


def _device(row: Mapping[str, Any], template: str, file: Path, number: int) -> ManifestDevice:
    where = f"{file}, line {number}"

    def column(match: re.Match[str]) -> str:
        if match[1] not in row:
            raise CommandFailure(f"{where}: there is no {match[1]}, of which the id is made", status=MISUSED)
        return str(row[match[1]])

    device_id = _PLACE.sub(column, template) if template else str(row.get("id", ""))
    check_id(device_id, where)
    files = {name: file.parent / str(row[name]) for name in ("certificate", "csr") if row.get(name)}
    return ManifestDevice(
        id=device_id,
        certificate=files.get("certificate"),
        csr=files.get("csr"),
        thumbprint=str(row.get("thumbprint", "")),
        primary_key=str(row.get("primaryKey", "")),
        secondary_key=str(row.get("secondaryKey", "")),
        tags={name: value for name, value in row.items() if name not in _OWN},
    )
