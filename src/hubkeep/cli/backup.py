"""``hubkeep backup`` and ``hubkeep restore``: on the hub's machine, while it runs."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, DataOption, JsonOption
from .output import print_json, print_plain, progress_bar


def backup(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    keys_to: Annotated[
        Path | None, typer.Option("--keys-to", metavar="FOLDER", help="A new folder elsewhere, for the keys.")
    ] = None,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="They are backed up already.")] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Copy a hub's data directory as of one moment, while the hub runs.

    The keys of devices stay sealed in it. The sealing key and the private keys of the certificates go into a folder of
    their own: keep that one elsewhere, for together they open everything, and without it nothing can be restored.
    """
    from hubkeep.server.backup import BackupFailure, back_up  # noqa: PLC0415  # the other commands need no server

    if (keys_to is None) is not without_keys:
        raise CommandFailure(
            "say where the keys go: a backup cannot be restored without them",
            "--keys-to FOLDER on another medium, or --without-keys where they are backed up already",
            MISUSED,
        )
    with _progress("copied", as_json=as_json) as (begun, progress):
        try:
            manifest = back_up(data, to, keys_to, begun, progress)
        except BackupFailure as failure:
            raise CommandFailure(failure.cause, failure.cure) from None
    if as_json:
        keys = str(keys_to) if keys_to else None
        print_json({"backup": str(to), "keys": keys, "files": len(manifest.parts), "bytes": manifest.size})
        return
    print_plain(f"{len(manifest.parts)} files, {manifest.size / 1e6:.1f} MB, are in {to}")
    if keys_to is not None:
        print_plain(f"the keys are in {keys_to}: keep them apart from the rest")
    print_plain(f"to put it back: hubkeep restore {to} --keys-from {keys_to or 'KEYS'} --data NEW-DIRECTORY")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="What 'hubkeep backup' made.")],
    keys_from: Annotated[Path, typer.Option("--keys-from", metavar="FOLDER", help="The folder of its keys.")],
    data: Annotated[Path, typer.Option("--data", help="A new data directory.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings that say where the sealing key is, if not among the keys.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data directory of a backup: every file and every stored event is checked, and that the keys open it."""
    from hubkeep.server.backup import BackupFailure  # noqa: PLC0415  # the other commands need no server
    from hubkeep.server.backup import restore as put_back  # noqa: PLC0415
    from hubkeep.settings import SettingsError, load  # noqa: PLC0415  # pydantic is half of the start of a command

    try:
        sealing = load(config).sealing
    except SettingsError as error:
        raise CommandFailure(str(error), "docs/reference/settings.md lists every setting", MISUSED) from None
    with _progress("checked", as_json=as_json) as (begun, progress):
        try:
            manifest = put_back(source, keys_from, data, begun, progress, sealing)
        except BackupFailure as failure:
            raise CommandFailure(failure.cause, failure.cure) from None
    if as_json:
        print_json({"data": str(data), "mode": manifest.mode, "created": manifest.created})
        return
    print_plain(f"{data} is as it was at the backup; devices and events that came later are not in it")
    print_plain(f"to start it: hubkeep {manifest.mode} --data {data}")


@contextlib.contextmanager
def _progress(what: str, *, as_json: bool) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar on a terminal's standard error. Call the first with the bytes to come, the second as they go."""
    with progress_bar(what, None, DownloadColumn(), shown=not as_json) as (progress, task):
        yield (
            lambda size: progress.update(task, total=size),
            lambda size: progress.update(task, advance=size),
        )
