"""``hubkeep module ...``: module identities of a device."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from .client import device_path
from .failure import CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, DeviceArgument, JsonOption, client_of
from .output import print_fields, print_json, print_list, print_plain

app = typer.Typer(no_args_is_help=True, help="Module identities of a device: create, show, list, delete.")

ModuleArgument = Annotated[str, typer.Argument(metavar="MODULE", help="The module's id.")]


@app.command()
def create(
    device_id: DeviceArgument,
    module_id: ModuleArgument,
    managed_by: Annotated[str | None, typer.Option(help="Who looks after it: free text.")] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a module, and print its connection string."""
    body = {"deviceId": device_id, "moduleId": module_id, "managedBy": managed_by}
    with client_of(data, connection_string) as client:
        module = client.request("PUT", module_path(device_id, module_id), body=body)
        host = client.place.host
    if as_json:
        print_json(module)
    else:
        print_plain(connection_string_of(module, host))


@app.command()
def show(
    device_id: DeviceArgument,
    module_id: ModuleArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about one module except its keys (``--json`` has them)."""
    with client_of(data, connection_string) as client:
        module = client.get(module_path(device_id, module_id))
    if as_json:
        print_json(module)
        return
    print_fields(
        {
            "module": f"{module['deviceId']}/{module['moduleId']}",
            "managed by": module["managedBy"],
            "connection": module["connectionState"],
            "authentication": module["authentication"]["type"],
            "generation": module["generationId"],
            "etag": module["etag"],
        }
    )


@app.command("list")
def list_modules(
    device_id: DeviceArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """The modules of a device."""
    with client_of(data, connection_string) as client:
        modules = client.get(f"{device_path(device_id)}/modules")
    rows = ((each["moduleId"], each["managedBy"] or "", each["connectionState"]) for each in modules)
    print_list(
        modules,
        ("module", "managed by", "connection"),
        rows,
        none=f"no modules yet: hubkeep module create {device_id} MODULE",
        as_json=as_json,
    )


@app.command()
def delete(
    device_id: DeviceArgument,
    module_id: ModuleArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a module; its connection ends."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", module_path(device_id, module_id), if_match="*")
    if as_json:
        print_json({"deleted": f"{device_id}/{module_id}"})
    else:
        print_plain(f"{device_id}/{module_id} is deleted")


def connection_string_of(module: dict[str, Any], host: str) -> str:
    """Raises CommandFailure for a module without symmetric keys."""
    key = module["authentication"]["symmetricKey"]["primaryKey"]
    if not key:
        raise CommandFailure(f"{module['moduleId']} authenticates by {module['authentication']['type']}, not by keys")
    return f"HostName={host};DeviceId={module['deviceId']};ModuleId={module['moduleId']};SharedAccessKey={key}"


def module_path(device_id: str, module_id: str) -> str:
    return f"{device_path(device_id)}/modules/{quote(module_id, safe='')}"
