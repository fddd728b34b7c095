"""``hubkeep cert ...``: certificates of devices: issue, list, revoke, deny, verify."""

import datetime as dt
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from . import authorities, server_roots
from .certificate_files import (
    key_pem,
    new_key,
    new_request,
    read_certificates,
    read_file,
    write_key,
    write_public,
)
from .certificate_renewal import renew
from .failure import FAILED, MISUSED, CommandFailure
from .options import (
    DEFAULT_DATA,
    ConnectionStringOption,
    DataOption,
    DeviceArgument,
    JsonOption,
    ModuleOption,
    client_of,
)
from .output import print_fields, print_json, print_list, print_plain

app = typer.Typer(
    no_args_is_help=True, help="Certificates of devices: issue, renew, list, revoke, deny, verify; authorities (ca)."
)
app.add_typer(authorities.app, name="ca")
app.add_typer(server_roots.app, name="root")
app.command()(renew)
app.command()(server_roots.rehearse)

ReasonOption = Annotated[
    str,
    typer.Option(
        help="unspecified, keyCompromise, cACompromise, affiliationChanged, superseded or cessationOfOperation"
    ),
]


@app.command()
def issue(
    device_id: DeviceArgument,
    module: ModuleOption = None,
    csr: Annotated[Path | None, typer.Option(help="The device's own request: its private key never leaves it.")] = None,
    out: Annotated[Path, typer.Option(help="The folder for the files.")] = Path(),
    algorithm: Annotated[str, typer.Option(help="Of a new key: P-256, P-384, RSA-2048 or RSA-3072.")] = "P-256",
    days: Annotated[float | None, typer.Option(help="How long it lasts; the authority's default if not given.")] = None,
    ca: Annotated[str, typer.Option(help="The authority; the newest if not given.")] = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Issue a certificate to a device, for a key that is made here or for the device's own request.

    The hub never sees a private key. A device that has keys goes on with them until it first shows the certificate.
    """
    name = f"{device_id}/{module}" if module else device_id
    key = None if csr else new_key(algorithm)
    request = read_file(csr).decode(errors="replace") if csr else new_request(key, name)
    body = {"deviceId": device_id, "moduleId": module or "", "csr": request, "authority": ca, "days": days or 0}
    stem = f"{device_id}.{module}" if module else device_id
    certificate, key_file = out / f"{stem}.pem", out / f"{stem}.key"
    if key is not None and key_file.exists():
        raise CommandFailure(f"{key_file} is there already", "name another folder with --out", MISUSED)
    with client_of(data, connection_string) as client:
        issued = client.request("POST", "/api/certificates", body=body)
        host = client.place.host
    if key is not None:
        write_key(key_file, key_pem(key))
    write_public(certificate, "".join(issued["chain"][:-1] or issued["chain"]))
    if as_json:
        print_json(issued)
        return
    print_plain(f"{certificate}  the certificate and those between it and the root, until {issued['expires'][:10]}")
    if key is not None:
        print_plain(f"{key_file}  its private key: it was made here, and the hub never saw it")
    where = f";ModuleId={module}" if module else ""
    print_plain(f"HostName={host};DeviceId={device_id}{where};x509=true")
    if issued["authentication"] == "sas":
        print_plain(f"{name} has keys: they are void once it has connected with the certificate")
    elif issued["authentication"] != "certificateAuthority":
        print_plain(f"{name} authenticates by {issued['authentication']}: register it with --ca-signed to use this")


@app.command("list")
def list_certificates(
    device: Annotated[str | None, typer.Option(help="Of one device alone.")] = None,
    module: ModuleOption = None,
    ca: Annotated[str | None, typer.Option(help="Of one authority alone.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the hub's own authorities issued, the newest first."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/certificates", device=device, module=module, authority=ca, top=top)
    rows = (
        (
            f"{each['deviceId']}/{each['moduleId']}" if each["moduleId"] else each["deviceId"],
            each["status"],
            each["expires"][:10],
            (each["lastUsed"] or "never")[:10],
            each["authority"],
            each["serial"],
        )
        for each in found
    )
    print_list(
        found,
        ("device", "status", "expires", "last used", "authority", "serial"),
        rows,
        none="no certificates: hubkeep cert issue DEVICE",
        as_json=as_json,
    )


@app.command()
def revoke(
    certificate: Annotated[
        str | None, typer.Argument(metavar="[SERIAL|FILE]", help="A serial number, or the certificate's file.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Everything that was issued to it so far, instead.")] = None,
    module: ModuleOption = None,
    reason: ReasonOption = "unspecified",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what the hub issued: its connections end at once, and it stands on the revocation list."""
    if (certificate is None) == (device is None):
        raise CommandFailure("what is to be revoked?", "a serial number, a file, or --device ID", MISUSED)
    body: dict[str, Any] = {"deviceId": device, "moduleId": module or ""}
    if certificate is not None:
        body = {"serial": _serial_of(certificate)}
    with client_of(data, connection_string) as client:
        revoked = client.request("POST", "/api/certificates/revoke", body={**body, "reason": reason})
    if as_json:
        print_json(revoked)
    elif device is not None:
        print_plain(f"every certificate of {device} is revoked; it must be issued a new one")
    else:
        print_plain(f"{revoked['serial']} of {revoked['deviceId']} is revoked")


@app.command()
def requests(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """What devices ask of an authority that wants approval (hubkeep cert ca update NAME --approval manual)."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/certificates/requests")
    if as_json:
        print_json(found)
    elif not found:
        print_plain("nothing waits")
    else:
        for each in found:  # not a table: an id is for pasting, and must not be wrapped
            print_plain(each["id"])
            name = f"{each['deviceId']}/{each['moduleId']}" if each["moduleId"] else each["deviceId"]
            print_plain(f"    {name} of {each['authority']}, {each['state']}, asked {each['asked'][:16]}")


@app.command()
def approve(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="As hubkeep cert requests shows it.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="The contrary.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a device have the certificate that it asked for: it gets it when it asks again."""
    verb = "refuse" if refuse else "approve"
    with client_of(data, connection_string) as client:
        decided = client.request("POST", f"/api/certificates/requests/{quote(request, safe='')}/{verb}")
    if as_json:
        print_json(decided)
    else:
        print_plain(f"the request of {decided['deviceId']} is {decided['state']}")


@app.command()
def deny(
    certificate: Annotated[
        str, typer.Argument(metavar="FILE|VALUE", help="The certificate's file; or a SHA-256, or a serial number.")
    ],
    kind: Annotated[str, typer.Option(help="What of it: cert, spki (its key, for ever), serial.")] = "serial",
    ca: Annotated[str, typer.Option(help="Who issued the serial number, if no file is given.")] = "",
    reason: ReasonOption = "unspecified",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nobody in with this certificate, key or intermediate, whoever issued it; its connections end at once."""
    body = {"kind": kind, "reason": reason, "authority": ca}
    is_file = Path(certificate).is_file()
    body |= {"certificate": read_certificates(Path(certificate))[0]} if is_file else {"value": certificate}
    with client_of(data, connection_string) as client:
        denial = client.request("POST", "/api/denials", body=body)
    if as_json:
        print_json(denial)
    else:
        print_plain(f"denied; hubkeep cert allow {denial['mark']} takes it back")


@app.command()
def allow(
    mark: Annotated[str, typer.Argument(metavar="MARK", help="As hubkeep cert denied shows it.")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an entry off the deny-list. What the hub has revoked stays revoked."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", f"/api/denials/{quote(mark, safe='')}")
    if as_json:
        print_json({"allowed": mark})
    else:
        print_plain(f"{mark} is off the deny-list")


@app.command()
def denied(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """The deny-list, the newest first."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/denials")
    if as_json:
        print_json(found)
    elif not found:
        print_plain("nothing is denied")
    else:
        for each in found:  # not a table: a mark is for pasting, and must not be wrapped
            print_plain(each["mark"])
            of = f" of {each['issuer']}" if each["issuer"] else ""
            print_plain(f"    since {each['at'][:10]}, {each['reason']}, by {each['by'] or 'nobody known'}{of}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As the device shows it: its certificate first.")],
    device: Annotated[
        str | None, typer.Option(help="The identity that it must open (ID or ID/MODULE); the name in it if not given.")
    ] = None,
    ca: Annotated[
        list[Path] | None, typer.Option(help="An authority to trust, instead of those of the data directory.")
    ] = None,
    at: Annotated[dt.datetime | None, typer.Option(help="The moment that counts (UTC); now if not given.")] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Would a hub let a device in with this certificate? Says what is wrong. Needs no running hub.

    Checks what stands in the certificates; revocation and the issuance log are the running hub's to know.
    """
    from hubkeep.server import offline  # noqa: PLC0415  # other commands need no server

    chain = [x509.load_pem_x509_certificate(each.encode()) for each in _readable(read_certificates(file))]
    pems = [pem for each in ca or () for pem in _readable(read_certificates(each))]
    trusted = offline.trusted_for(pems) if ca else offline.registered(data)
    if not trusted:
        raise CommandFailure(f"there are no authorities in {data}", "name one: --ca FILE", MISUSED)
    names = [str(each.value) for each in chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    now = (at.replace(tzinfo=dt.UTC) if at else dt.datetime.now(dt.UTC)).timestamp()
    name = device or (names[0] if names else "")
    found = offline.judged([each.public_bytes(Encoding.DER) for each in chain], name, trusted, now)
    if as_json:
        print_json({"valid": not found.word, "identity": name, **found._asdict()})
    elif found.word:
        print_fields({"refused": found.word, "because": found.reason, "mend it": found.remedy})
    else:
        ends = dt.datetime.fromtimestamp(found.expires, dt.UTC)
        print_plain(f"good for {name}: vouched for by {found.authority}, until {ends:%Y-%m-%d %H:%M} UTC")
    if found.word:
        raise typer.Exit(FAILED)


def _serial_of(given: str) -> str:
    if Path(given).is_file():
        return (
            f"{x509.load_pem_x509_certificate(_readable(read_certificates(Path(given)))[0].encode()).serial_number:X}"
        )
    return given.replace(":", "").upper()


def _readable(pems: list[str]) -> list[str]:
    """Raises CommandFailure for one that is no certificate."""
    for each in pems:
        try:
            x509.load_pem_x509_certificate(each.encode())
        except (ValueError, x509.InvalidVersion) as error:
            raise CommandFailure(f"malformed: a certificate cannot be read: {error}") from None
    return pems
