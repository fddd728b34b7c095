"""Options that many commands share."""

from pathlib import Path
from typing import Annotated

import typer

from .client import CONNECTION_STRING_VARIABLE, HubClient, HubPlace, find_hub

DataOption = Annotated[Path, typer.Option("--data", help="The hub's data directory.", envvar="HUBKEEP_DATA")]
ConnectionStringOption = Annotated[
    str | None,
    typer.Option("--connection-string", help=f"A policy's connection string, instead (${CONNECTION_STRING_VARIABLE})."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
DeviceArgument = Annotated[str, typer.Argument(metavar="ID", help="The device's id.")]
ModuleOption = Annotated[str | None, typer.Option("--module", metavar="MODULE", help="A module of it, instead.")]
DEFAULT_DATA = Path(".hubkeep")


def place_of(data: Path, connection_string: str | None) -> HubPlace:
    return find_hub(data, connection_string)


def client_of(data: Path, connection_string: str | None) -> HubClient:
    """Raises CommandFailure when there is no hub to ask."""
    return HubClient(find_hub(data, connection_string))


def provisioning_client_of(data: Path, connection_string: str | None) -> HubClient:
    """As the provisioning service's owner, where the data directory is here. Raises CommandFailure."""
    place = find_hub(data, connection_string)
    if place.login is not None:
        return HubClient(place)
    return HubClient(place._replace(connection_string=place.provisioning_connection_string or place.connection_string))
