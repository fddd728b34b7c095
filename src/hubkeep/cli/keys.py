"""``hubkeep key ...`` and ``hubkeep device rotate``: which keys are in use, and new ones for one device or many."""

import contextlib
import datetime as dt
import json
import os
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from .client import HubClient
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, ModuleOption, client_of
from .output import print_fields, print_json, print_plain, print_table, progress_bar
from .query import rows_of

app = typer.Typer(no_args_is_help=True, help="Symmetric keys: which are in use, who still needs one, new ones in bulk.")

_AT_ONCE: Final = 100
_ASKED_EVERY: Final = 0.2  # seconds
_RECENT: Final = dt.timedelta(hours=24)
_NAMED: Final = 5
_WHERE_HELP: Final = "Those whose twin meets this: \"tags.hall = 'hall 3'\"."


class KeyChoice(StrEnum):
    """What is made anew; swap: the two change places."""

    primary = "primary"
    secondary = "secondary"
    both = "both"
    swap = "swap"


class Slot(StrEnum):
    primary = "primary"
    secondary = "secondary"


@app.command()
def show(
    device_id: Annotated[str, typer.Argument(metavar="[ID]", help="The device's id.")] = "",
    module: ModuleOption = None,
    policy: Annotated[str, typer.Option(metavar="NAME", help="Of a shared access policy, instead.")] = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which keys, thumbprints or authorities were used, when, and from where. The keys themselves are not shown."""
    if bool(device_id) == bool(policy):
        raise CommandFailure("a device or a policy?", "hubkeep key show ID, or --policy NAME", MISUSED)
    with client_of(data, connection_string) as client:
        uses = _uses(client, device_id, module, policy)
    if as_json:
        print_json(uses)
    elif not uses:
        print_plain("never used since the hub keeps record of it")
    else:
        _print_uses(uses, for_policy=bool(policy))


@app.command()
def reseal(
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End as soon as it is begun.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal all keys at rest anew, under a new sealing key, while the hub serves.

    The hub makes the new key, unless the settings name a file or a command for it: those must give the new one first.
    Both keys are accepted until all is done; a hub that is stopped meanwhile goes on at its next start. Then back up
    the keys: the old ones open older backups alone.
    """
    with client_of(data, connection_string) as client:
        state = client.request("POST", "/api/sealing/reseal")
        while state["resealing"] and not no_wait:
            if state["failure"]:
                raise CommandFailure(f"it does not go on for now: {state['failure']}", "the hub tries again by itself")
            time.sleep(_ASKED_EVERY)
            state = client.get("/api/sealing")
    if as_json:
        print_json(state)
    elif state["resealing"]:
        print_plain(f"everything is being sealed under the key {state['keyId']}")
    else:
        print_plain(f"{state['resealed']} records are sealed under the key {state['keyId']}: back up the keys")


@app.command()
def progress(
    retire: Annotated[Slot, typer.Option(help="The key or thumbprint that is to go.")],
    where: Annotated[str, typer.Option(metavar="CONDITION", help=_WHERE_HELP)] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="ISO 8601: uses before it tell nothing.")] = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """How far a rotation is: who has moved to the other key, who still needs this one, who has not been here since.

    Status 1 while anybody would be shut out or is not known.
    """
    with client_of(data, connection_string) as client:
        found = client.get("/api/credentials/rollover", **_asked(retire.value, where, since))
    outgoing, unknown = found["outgoing"], found["unknown"]
    if as_json:
        print_json(found)
    else:
        print_fields(
            {
                "moved": found["confirmed"],
                "would be shut out": len(outgoing),
                "not here since": len(unknown),
            }
        )
        for what, names in (("would be shut out", outgoing), ("not here since", unknown)):
            if names:
                print_plain()
                print_table((what, "last seen"), ((each["name"], _when(each["lastSeen"])) for each in names))
    if outgoing or unknown:
        raise typer.Exit(1)


@app.command()
def regenerate(
    key: Annotated[KeyChoice, typer.Argument(help="Which key is made anew; swap: the two change places.")],
    devices: Annotated[list[str] | None, typer.Option("--device", metavar="ID", help="Once for each.")] = None,
    where: Annotated[str, typer.Option(metavar="CONDITION", help=_WHERE_HELP)] = "",
    every: Annotated[bool, typer.Option("--all", help="Every device with keys.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="Where the new keys are written, one JSON record a line; for you alone.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also a key that was used within a day.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """New keys for many devices. Connections that used a key that is gone end.

    Refuses while any of them used that key within a day. Given again with the same --output it goes on where it was cut
    short: devices that stand there already are passed over.
    """
    if bool(devices) + bool(where) + every != 1:
        raise CommandFailure("for which devices?", "give --device (once for each), --where or --all", MISUSED)
    with client_of(data, connection_string) as client, _records(output) as (out, known):
        condition = where or (_either(devices) if devices else "")
        if not force and key is not KeyChoice.swap:
            _check_unused(client, [key.value] if key is not KeyChoice.both else list(Slot), condition)
        ids = [each for each in _ids(client, devices, where) if each not in known]
        failed = []
        with progress_bar("new keys", len(ids)) as (bar, task):
            for start in range(0, len(ids), _AT_ONCE):
                some = ids[start : start + _AT_ONCE]
                done = client.rotate({"policyKey": key.value, "devices": [{"id": each} for each in some]})
                failed += done["errors"]
                if out is not None:
                    out.write(b"".join(json.dumps(each).encode() + b"\n" for each in done["rotatedKeys"]))
                    out.flush()
                    os.fsync(out.fileno())
                bar.advance(task, len(some))
    if as_json:
        print_json({"rotated": len(ids) - len(failed), "errors": failed})
    else:
        count = len(ids) - len(failed)
        have = "1 device has" if count == 1 else f"{count} devices have"
        print_plain(f"{have} new keys" + (f", in {output}" if output else ""))
    if failed:
        first = failed[0]
        raise CommandFailure(f"{len(failed)} of {len(ids)} were refused: {first['id']}: {first['errorStatus']}")


def rotate(
    device_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Devices' ids.")],
    key: Annotated[KeyChoice, typer.Option(help="Which key is made anew; swap: the two change places.")],
    module: ModuleOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give devices new keys, none of which is shown. Connections that used a key that is gone end, others go on.

    To change keys without a gap: rotate the secondary key, hand it out (--json shows it), swap, rotate it again.
    """
    if len(device_ids) > _AT_ONCE:
        raise CommandFailure(f"more than {_AT_ONCE} devices", "hubkeep key regenerate takes any number", MISUSED)
    wanted = [{"id": each, "moduleId": module or None} for each in device_ids]
    with client_of(data, connection_string) as client:
        done = client.rotate({"policyKey": key.value, "devices": wanted})
    if as_json:
        print_json(done)
    else:
        for each in done["rotatedKeys"]:
            print_plain(f"{each['id']}{'/' + each['moduleId'] if each['moduleId'] else ''} has new keys")
    if failed := done["errors"]:
        first = failed[0]
        raise CommandFailure(f"{len(failed)} of {len(wanted)} were refused: {first['id']}: {first['errorStatus']}")


def last_used(client: HubClient, device_id: str) -> str:
    """The newest use of a device's own credentials in words; empty if there was none."""
    uses = [each for each in _uses(client, device_id, None, "") if each["lastUsed"] and not each["policy"]]
    if not uses:
        return ""
    newest = max(uses, key=lambda each: each["lastUsed"])
    how = " ".join(filter(None, (newest["surface"], newest["tls"])))
    return f"{newest['slot']}, {_when(newest['lastUsed'])} ({how}) from {newest['peer'].rpartition(':')[0]}"


def _uses(client: HubClient, device_id: str, module: str | None, policy: str) -> list[dict[str, Any]]:
    query: dict[str, object] = {"policy": policy} if policy else {"device": device_id}
    if module:
        query["module"] = module
    return list(client.get("/api/credentials", **query))


def _print_uses(uses: Sequence[dict[str, Any]], *, for_policy: bool) -> None:
    rows = []
    for each in uses:
        name = "/".join(filter(None, (each["deviceId"], each["moduleId"])))
        slot = each["slot"] if not each["policy"] or for_policy else f"policy {each['policy']}, {each['slot']}"
        used = [_when(each[member]) for member in ("created", "firstUsed", "lastUsed")]
        rows.append(
            [*([name or "back end"] if for_policy else []), slot, *used, each["uses"], each["peer"], each["tls"]]
        )
    columns = ["who"] if for_policy else []
    print_table((*columns, "key", "made", "first used", "last used", "uses", "from", "TLS"), rows)


def _asked(retire: str, condition: str, since: str = "") -> dict[str, object]:
    given = {"retire": retire, "condition": condition, "since": since}
    return {name: value for name, value in given.items() if value}


def _check_unused(client: HubClient, slots: Sequence[str], condition: str) -> None:
    """Raises CommandFailure while devices stand on one of these keys."""
    since = dt.datetime.now(dt.UTC) - _RECENT
    for slot in slots:
        outgoing = client.get("/api/credentials/rollover", **_asked(slot, condition))["outgoing"]
        recent = [each["name"] for each in outgoing if dt.datetime.fromisoformat(each["lastSeen"][:19] + "Z") > since]
        if recent:
            named = ", ".join(recent[:_NAMED]) + (", ..." if len(recent) > _NAMED else "")
            raise CommandFailure(
                f"{len(recent)} used their {slot} key within a day: {named}",
                f"move them to the other key first (hubkeep key progress --retire {slot}), or --force",
            )


def _ids(client: HubClient, devices: list[str] | None, where: str) -> list[str]:
    if devices:
        return list(dict.fromkeys(devices))
    condition = "authenticationType = 'sas'" + (f" AND ({where})" if where else "")
    query = f"SELECT deviceId FROM devices WHERE {condition}"  # noqa: S608  # the asker's own, in the hub's language
    return [each["deviceId"] for each in rows_of(client, query, None)]


def _either(devices: Sequence[str]) -> str:
    quoted = ", ".join("'" + each.replace("'", "''") + "'" for each in devices)
    return f"deviceId IN [{quoted}]"


@contextlib.contextmanager
def _records(path: Path | None) -> Iterator[tuple[BinaryIO | None, set[str]]]:
    """The file of new keys, readable by its owner alone, and the devices that stand in it already."""
    if path is None:
        yield None, set()
        return
    with open(path, "a+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:  # an opener
        out.seek(0)
        known = {json.loads(line)["id"] for line in out if line.endswith(b"\n")}
        yield out, known


def _when(stamp: str | None) -> str:
    return stamp[:19].replace("T", " ") if stamp else "-"
