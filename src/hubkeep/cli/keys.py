"""``hubkeep device rotate``: new symmetric keys, for one device or many."""

from enum import StrEnum
from typing import Annotated

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, ModuleOption, client_of
from .output import print_json, print_plain

_AT_ONCE = 100


class KeyChoice(StrEnum):
    """What is made anew; swap: the two change places."""

    primary = "primary"
    secondary = "secondary"
    both = "both"
    swap = "swap"


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
        raise CommandFailure(f"more than {_AT_ONCE} devices", f"give {_AT_ONCE} at once", MISUSED)
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
