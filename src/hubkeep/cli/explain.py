"""``hubkeep explain``: why something was refused, and what would mend it."""

from typing import Annotated, Any

import typer

from hubkeep.causes import CAUSES
from hubkeep.errors import ON_WIRE

from .failure import FAILED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain


def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A tracking id, a device, 'policy NAME', or the name of a cause or an error, or its number.",
        ),
    ] = "",
    most: Annotated[int, typer.Option(min=1, max=1000, help="At most so many refusals, the newest first.")] = 5,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was presented, which check failed, what would mend it. Without ID: the newest refusals."""
    if rows := [*_cause_rows(key), *_error_rows(key)]:
        if as_json:
            print_json(rows)
        else:
            for row in rows:
                print_fields(row)
                print_plain()
        return
    with client_of(data, connection_string) as client:
        refusals = client.get("/api/refusals", key=key, most=most)
    if as_json:
        print_json(refusals)
        return
    if not refusals:
        raise CommandFailure(
            f"nothing was refused for {key!r}" if key else "nothing was refused yet",
            "hubkeep explain without an id shows the newest of all" if key else "",
            FAILED,
        )
    for refusal in refusals:
        _show(refusal)


def _show(refusal: dict[str, Any]) -> None:
    who = refusal["identity"] or "an unknown peer"
    print_plain(f"{refusal['time'][:19].replace('T', ' ')} UTC  {who} from {refusal['peer']} ({refusal['surface']})")
    print_fields(
        {
            "  refused": refusal["operation"],
            "  because": refusal["reason"],
            "  cause": refusal.get("cause", ""),
            "  mend it": refusal["remedy"],
            "  presented": ", ".join(f"{name}={value}" for name, value in refusal["presented"].items()),
            "  the peer saw": f"{refusal['code']} {refusal['name']}",
            "  tracking id": refusal["tracking_id"],
        }
    )


def _cause_rows(key: str) -> list[dict[str, Any]]:
    """The entry of the cause of this name, if it is one."""
    cause = CAUSES.get(key.lower())
    return [{"cause": key.lower(), "means": cause.means, "mend it": cause.cure}] if cause is not None else []


def _error_rows(key: str) -> list[dict[str, Any]]:
    """The rows of the table of refusals that have this number or name."""
    wanted = key.lower()
    return [
        {
            "number": row.number,
            "name": row.name,
            "means": (error.__doc__ or error.text).strip().splitlines()[0],
            "http": row.http,
            "amqp": row.amqp,
            "mqtt connack": row.connack,
            "mqtt 5 reason": f"0x{row.mqtt5:02X}",
        }
        for error, row in ON_WIRE.items()
        if wanted and wanted in {str(row.number), row.name.lower()}
    ]
