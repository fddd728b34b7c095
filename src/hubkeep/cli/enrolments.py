"""``hubkeep enroll ...``: who may register itself with the provisioning service, and what became of it."""

from base64 import b64encode
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from . import linked_hubs
from .access import time_of
from .client import HubClient
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, provisioning_client_of
from .output import print_fields, print_json, print_plain, print_table
from .thumbprints import certificates_in

app = typer.Typer(
    no_args_is_help=True,
    help="Devices that register themselves: enrollments of single devices and of groups. "
    "Commands with --group are about a group. --connection-string is the provisioning service's.",
)

app.add_typer(linked_hubs.app, name="hub")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The registration id; with --group, the group's id.")]
GroupOption = Annotated[bool, typer.Option("--group", help="A group of devices.")]
_PAGE = 1000
_PATH_LENGTH = 256  # a key in base64 is longer
_EVERYTHING = {"query": "SELECT *"}


class Allocation(StrEnum):
    """How a hub is chosen."""

    hashed = "hashed"
    geo_latency = "geoLatency"
    static = "static"


@app.command()
def create(
    name: IdArgument,
    group: GroupOption = False,
    certificate: Annotated[
        Path | None, typer.Option(help="Attest by this certificate (PEM): the device's, or a group's authority.")
    ] = None,
    secondary_certificate: Annotated[Path | None, typer.Option(help="And by this one.")] = None,
    ca: Annotated[
        str | None, typer.Option(help="Attest a group by this registered authority (hubkeep cert ca).")
    ] = None,
    endorsement_key: Annotated[
        str | None, typer.Option(help="Attest by the TPM of this key: a file of tpm2_createek -u, or its base64.")
    ] = None,
    storage_root_key: Annotated[
        str | None, typer.Option(help="And by this one, in the same form (default: any of that TPM).")
    ] = None,
    primary_key: Annotated[str | None, typer.Option(help="A symmetric key (base64) instead of a new one.")] = None,
    secondary_key: Annotated[str | None, typer.Option(help="The other one.")] = None,
    device_id: Annotated[str | None, typer.Option(help="The device's name at the hub (default: the same).")] = None,
    hub: Annotated[list[str] | None, typer.Option(help="A hub to choose from (default: all linked ones).")] = None,
    allocation: Annotated[Allocation | None, typer.Option(help="How the hub is chosen.")] = None,
    edge: Annotated[bool, typer.Option("--edge", help="IoT Edge devices.")] = False,
    disabled: Annotated[
        bool, typer.Option("--disabled", help="Let nobody in: for stopping one device of a group.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a device, or a group of devices, register. Without a certificate or a TPM's key: by symmetric keys."""
    if sum(each is not None for each in (certificate, ca, endorsement_key, primary_key)) > 1:
        kinds = "--certificate, --ca, --endorsement-key and --primary-key"
        raise CommandFailure(f"more than one of {kinds}", status=MISUSED)
    if ca and not group:
        raise CommandFailure("--ca without --group", "a single device is enrolled with its own --certificate", MISUSED)
    body = {
        ("enrollmentGroupId" if group else "registrationId"): name,
        "attestation": _by_tpm(endorsement_key, storage_root_key)
        if endorsement_key
        else _attestation(certificate, secondary_certificate, ca, primary_key, secondary_key, group=group),
        "provisioningStatus": "disabled" if disabled else "enabled",
        "capabilities": {"iotEdge": edge},
        "deviceId": device_id,
        "iotHubs": hub or None,
        "allocationPolicy": allocation,
    }
    with provisioning_client_of(data, connection_string) as client:
        made = client.request("PUT", _path(name, group=group), body=_given(body))
    if as_json:
        print_json(made)
        return
    print_plain(f"{name} is enrolled, by {made['attestation']['type']}")
    if made["attestation"]["type"] == "symmetricKey":
        what = f"hubkeep enroll derive-key {name} REGISTRATION-ID" if group else f"hubkeep enroll show {name} --keys"
        print_plain(f"its key: {what}")


@app.command("list")
def list_enrolments(
    group: GroupOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """All enrollments of single devices, or all groups."""
    with provisioning_client_of(data, connection_string) as client:
        found = _pages(client, f"{_path(group=group)}/query")
    if as_json:
        print_json(found)
        return
    member = "enrollmentGroupId" if group else "registrationId"
    rows = ((each[member], each["attestation"]["type"], each["provisioningStatus"], _became(each)) for each in found)
    print_table(("id", "attestation", "status", "registration"), rows)


@app.command()
def show(
    name: IdArgument,
    group: GroupOption = False,
    keys: Annotated[bool, typer.Option("--keys", help="With its symmetric keys.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One enrollment, and what became of the device."""
    with provisioning_client_of(data, connection_string) as client:
        found = client.get(_path(name, group=group))
        if keys:
            found["attestation"] = client.request("POST", f"{_path(name, group=group)}/attestationmechanism")
    if as_json:
        print_json(found)
        return
    attestation = found["attestation"]
    print_fields(
        {
            "id": name,
            "attestation": attestation["type"],
            "status": found["provisioningStatus"],
            "device": found.get("deviceId"),
            "hubs": ", ".join(found.get("iotHubs", ())),
            "allocation": found.get("allocationPolicy"),
            "registration": _became(found),
            "etag": found["etag"],
            **(attestation.get("symmetricKey") or {} if keys else {}),
        }
    )


@app.command()
def delete(
    name: IdArgument,
    group: GroupOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let it register no more. Devices that it made stay at their hub: hubkeep device block ID stops them."""
    with provisioning_client_of(data, connection_string) as client:
        client.request("DELETE", _path(name, group=group))
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted; what it made at the hub stays")


@app.command("enable")
def enable(
    name: IdArgument,
    group: GroupOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let it register again."""
    _set_status(name, "enabled", data, connection_string, group=group, as_json=as_json)


@app.command("disable")
def disable(
    name: IdArgument,
    group: GroupOption = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop registrations. A device that is connected stays connected: hubkeep device block ID stops it too."""
    _set_status(name, "disabled", data, connection_string, group=group, as_json=as_json)


@app.command()
def limit(
    name: Annotated[str, typer.Argument(metavar="GROUP", help="The group's id.")],
    most: Annotated[int | None, typer.Option(min=0, help="Devices that it takes; 0: any number.")] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="Registration ids that it takes, as 'press-*'. Repeatable.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO 8601, or 2h, 180d from now; never: for good.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bound whom a group takes: how many, of which names, until when. What is not given stays."""
    change: dict[str, Any] = {"maxRegistrations": most, "allowedRegistrationIds": allow or None}
    change = {key: value for key, value in change.items() if value is not None}
    if until is not None:
        change["expiresAtUtc"] = None if until == "never" else time_of(until)
    if not change:
        raise CommandFailure("nothing to bound", "--most, --allow or --until", MISUSED)
    with provisioning_client_of(data, connection_string) as client:
        bounds = client.get(_path(name, group=True)).get("hubkeep") or {}
        bounds = _replaced(client, name, {"hubkeep": bounds | change}, group=True).get("hubkeep", {})
    if as_json:
        print_json(bounds)
        return
    print_fields(
        {
            "group": name,
            "most": bounds.get("maxRegistrations", "any number"),
            "names": ", ".join(bounds.get("allowedRegistrationIds", ())) or "any",
            "until": bounds.get("expiresAtUtc", "for good")[:19],
        }
    )


@app.command()
def records(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group's id.")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What became of the devices of a group."""
    with provisioning_client_of(data, connection_string) as client:
        found = _pages(client, f"/registrations/{quote(group, safe='')}/query")
    if as_json:
        print_json(found)
        return
    rows = (
        (each["registrationId"], each["status"], each.get("assignedHub", ""), each["lastUpdatedDateTimeUtc"][:19])
        for each in found
    )
    print_table(("registration id", "status", "hub", "updated"), rows)


@app.command("derive-key")
def derive_key(
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group's id.")],
    registration_id: Annotated[str, typer.Argument(metavar="ID", help="The device's registration id.")],
    secondary: Annotated[bool, typer.Option("--secondary", help="From the group's secondary key.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """The key that one device of a group is given. The group's own key never leaves the hub."""
    path = f"/api/enrollmentgroups/{quote(group, safe='')}/keys/{quote(registration_id, safe='')}"
    with provisioning_client_of(data, connection_string) as client:
        keys = client.request("POST", path)
    if as_json:
        print_json(keys)
    else:
        print_plain(keys["secondaryKey" if secondary else "primaryKey"])


@app.command()
def scope(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Print the id scope, which every device is told."""
    found = _service(data, connection_string)
    if as_json:
        print_json({"idScope": found["idScope"]})
    else:
        print_plain(found["idScope"])


@app.command()
def hubs(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """The hubs that devices may be assigned to."""
    found = _service(data, connection_string)["linkedHubs"]
    if as_json:
        print_json(found)
    else:
        names = ("hostName", "allocationWeight", "applyAllocationPolicy")
        print_table(("hub", "weight", "takes part"), ([each[name] for name in names] for each in found))


def _pages(client: HubClient, path: str) -> list[Any]:
    """All rows of a query for everything."""
    found, continuation = client.page(path, _EVERYTHING, _PAGE, "")
    while continuation:
        rows, continuation = client.page(path, _EVERYTHING, _PAGE, continuation)
        found += rows
    return found


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _service(data: Path, connection_string: str | None) -> Any:
    with provisioning_client_of(data, connection_string) as client:
        return client.get("/api/provisioning")


def _set_status(
    name: str,
    status: str,
    data: Path,
    connection_string: str | None,
    *,
    group: bool,
    as_json: bool,
) -> None:
    with provisioning_client_of(data, connection_string) as client:
        changed = _replaced(client, name, {"provisioningStatus": status}, group=group)
    if as_json:
        print_json(changed)
    else:
        print_plain(f"{name} is {status}")


def _replaced(client: HubClient, name: str, change: dict[str, Any], *, group: bool) -> Any:
    """What an answer hides of keys and certificates stays as it is."""
    found = client.get(_path(name, group=group))
    return client.request("PUT", _path(name, group=group), body=found | change, if_match=found["etag"])


def _path(name: str = "", *, group: bool) -> str:
    root = "/enrollmentGroups" if group else "/enrollments"
    return f"{root}/{quote(name, safe='')}" if name else root


def _became(enrolment: dict[str, Any]) -> str:
    state = enrolment.get("registrationState")
    return "" if state is None else " ".join(filter(None, (state["status"], state.get("assignedHub"))))


def _attestation(
    certificate: Path | None,
    secondary_certificate: Path | None,
    ca: str | None,
    primary_key: str | None,
    secondary_key: str | None,
    *,
    group: bool,
) -> dict[str, Any]:
    if ca:
        return {"type": "x509", "x509": {"caReferences": {"primary": ca, "secondary": None}}}
    if certificate is None:
        return {"type": "symmetricKey", "symmetricKey": {"primaryKey": primary_key, "secondaryKey": secondary_key}}
    slots = {"primary": _certificate(certificate), "secondary": _certificate(secondary_certificate)}
    return {"type": "x509", "x509": {("signingCertificates" if group else "clientCertificates"): slots}}


def _by_tpm(endorsement_key: str, storage_root_key: str | None) -> dict[str, Any]:
    keys = {"endorsementKey": _tpm_key(endorsement_key)}
    if storage_root_key:
        keys["storageRootKey"] = _tpm_key(storage_root_key)
    return {"type": "tpm", "tpm": keys}


def _tpm_key(given: str) -> str:
    """Base64 of TPM2B_PUBLIC. given: that, or a file of it."""
    if len(given) < _PATH_LENGTH and (file := Path(given)).is_file():
        return b64encode(file.read_bytes()).decode()
    return given


def _certificate(file: Path | None) -> dict[str, str] | None:
    """The first certificate of a file: what else is there, a key perhaps, is not sent. Raises CommandFailure."""
    if file is None:
        return None
    try:
        found = certificates_in(file.read_bytes())
    except OSError:
        raise CommandFailure(f"{file} cannot be read", "", MISUSED) from None
    if not found:
        raise CommandFailure(f"there is no certificate (PEM) in {file}", "openssl x509 -in FILE -out FILE.pem", MISUSED)
    return {"certificate": found[0]}
