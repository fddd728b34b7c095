"""``hubkeep device files``: what a device has uploaded, listed or fetched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .client import device_path
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, DeviceArgument, JsonOption, client_of
from .output import print_json, print_list, print_plain


def files(
    device_id: DeviceArgument,
    fetch: Annotated[str | None, typer.Option(metavar="NAME", help="Fetch this file instead of listing.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to; not given: the last part of NAME, here.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 1000,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a device has uploaded. Names are shown without the device's id, as the device gave them."""
    if output is not None and fetch is None:
        raise CommandFailure("--output without --fetch", "name the file: --fetch NAME", MISUSED)
    with client_of(data, connection_string) as client:
        found = client.get(f"/api{device_path(device_id)}/files", top=top)
        own = f"{device_id}/"
        if fetch is None:
            rows = ((each["name"].removeprefix(own), each["size"], _when(each["modified"])) for each in found)
            print_list(
                found, ("name", "bytes", "modified"), rows, none=f"{device_id} has uploaded nothing", as_json=as_json
            )
            return
        path = next((each["path"] for each in found if each["name"] == own + fetch.removeprefix(own)), None)
        if path is None:
            raise CommandFailure(f"{device_id} has uploaded no {fetch}", f"hubkeep device files {device_id}")
        # of a name that a device chose, only what cannot lead out of this folder
        target = output or Path(fetch.rpartition("/")[2])
        size = _fetched(client.download(path), target)
    if as_json:
        print_json({"file": str(target), "size": size})
    else:
        print_plain(f"{target}: {size} bytes")


def _fetched(chunks: Iterator[bytes], target: Path) -> int:
    """Write a new file, whole or not at all; how many bytes."""
    partial = target.with_name(f"{target.name}.partial")
    try:
        with target.open("xb"):
            pass
    except FileExistsError:
        raise CommandFailure(f"{target} is there already", "name another place: --output PATH") from None
    except OSError as error:
        raise CommandFailure(f"{target} cannot be written: {error.strerror}") from None
    size = 0
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                size += file.write(chunk)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise
    return size


def _when(stamp: str) -> str:
    return stamp[:19].replace("T", " ") + " UTC"
