"""``hubkeep cert ca ...``: certificate authorities whose word counts for devices, and those of the hub's own."""

import getpass
import os
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .certificate_files import key_pem, read_certificates, read_file, write_key, write_public
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_list, print_plain

app = typer.Typer(
    no_args_is_help=True,
    help="Certificate authorities: those of others, whose word counts for devices (add, verify), and the hub's own "
    "(create); list, show, update, delete.",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The certificate (PEM).")]
DaysOption = Annotated[float | None, typer.Option(help="How long certificates last that it issues; 45 if not given.")]
AlgorithmOption = Annotated[str, typer.Option(help="P-256, P-384 or RSA-3072.")]
PASSWORD_VARIABLE: Final = "HUBKEEP_ROOT_PASSWORD"  # noqa: S105  # its name
_TOLD: Final = (
    "name",
    "kind",
    "state",
    "subject",
    "issuer",
    "thumbprint",
    "expires",
    "key",
    "days",
    "revocation",
    "crlUrl",
    "ocspUrl",
    "etag",
)


@app.command()
def add(
    name: NameArgument,
    file: FileArgument,
    verified: Annotated[
        bool, typer.Option("--verified", help="Vouch for it yourself: no proof that its key is in your hand.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register an authority, root or intermediate. Devices below it are let in once it is verified."""
    body = {"certificate": "\n".join(read_certificates(file)), "isVerified": verified}
    with client_of(data, connection_string) as client:
        authority = client.request("PUT", path_of(name), body=body)
    if as_json:
        print_json(authority)
    else:
        print_plain(f"{name} is {authority['state']}")
        if not verified:
            print_plain(f"prove that its key is yours: hubkeep cert ca verify {name}")


@app.command()
def create(
    name: NameArgument,
    root: Annotated[str, typer.Option(help="A root of the hub's own; one is made beside it if not given.")] = "",
    request: Annotated[
        Path | None, typer.Option(help="Your root is elsewhere: write here the request for it to sign.")
    ] = None,
    algorithm: AlgorithmOption = "P-256",
    key: Annotated[
        str, typer.Option(help="Where its private key lies: file (sealed), or a PKCS#11 URI of a token.")
    ] = "file",
    days: DaysOption = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """An authority of the hub's own, which issues certificates to devices."""
    body = {"root": root, "algorithm": algorithm, "key": key, "days": days or 0, "request": request is not None}
    with client_of(data, connection_string) as client:
        authority = client.request("POST", f"{path_of(name)}/issuer", body=body)
    if request is not None:
        write_public(request, authority["request"])
    if as_json:
        print_json(authority)
    elif request is not None:
        print_plain(f"{name} is waiting; sign {request} with your root, then: hubkeep cert ca install {name} FILE")
    else:
        print_plain(f"{name} is {authority['state']} until {authority['expires'][:10]}; hubkeep cert issue DEVICE")


@app.command()
def install(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What your root has signed, then the root (PEM).")],
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a waiting authority the certificate that your root has signed, with those above it."""
    body = {"chain": "\n".join(read_certificates(file))}
    with client_of(data, connection_string) as client:
        authority = client.request("POST", f"{path_of(name)}/certificate", body=body)
    _told(authority, as_json=as_json)


@app.command("create-root")
def create_root(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What stands in the certificate: your organisation.")],
    out: Annotated[Path, typer.Option(help="A folder, best on a medium that is taken out.")] = Path(),
    algorithm: AlgorithmOption = "P-256",
) -> None:
    """A root that no hub holds: certificate and key as files, the key under a password. Needs no hub, no network."""
    from hubkeep.server import offline  # noqa: PLC0415  # other commands need no server

    certificate, key = offline.new_root(name, algorithm, _now())
    write_key(out / "root.key", key_pem(key, _password(twice=True)))
    write_public(out / "root.pem", certificate)
    print_plain(f"{out / 'root.pem'}  the root's certificate: public")
    print_plain(f"{out / 'root.key'}  its key: keep it where no network reaches")


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="What hubkeep cert ca create --request wrote.")],
    root: Annotated[Path, typer.Option(help="The root's certificate.")] = Path("root.pem"),
    key: Annotated[Path, typer.Option(help="The root's key.")] = Path("root.key"),
    days: Annotated[float, typer.Option(help="How long the issuing authority lasts.")] = 730,
    out: Annotated[Path, typer.Option(help="Written: the certificate and the root's.")] = Path("issuer.pem"),
) -> None:
    """Sign the request of a hub with a root that no hub holds. Needs no hub, no network."""
    from hubkeep.errors import BadRequest  # noqa: PLC0415  # beside the server
    from hubkeep.server import offline  # noqa: PLC0415  # other commands need no server

    certificate = read_file(root)
    try:
        opened: Any = load_pem_private_key(read_file(key), _password(twice=False))
        signed = offline.signed_issuer(read_file(request), certificate, opened, days, _now())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CommandFailure(f"{key} or {root} cannot be read", "is the password right?", MISUSED) from None
    except BadRequest as refused:
        raise CommandFailure(str(refused)) from None
    write_public(out, signed + certificate.decode())
    print_plain(f"{out}  bring it to the hub: hubkeep cert ca install NAME {out}")


@app.command("list")
def list_authorities(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """All authorities."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/cas")
    rows = ((each["name"], each["kind"], each["state"], each["expires"][:10], each["subject"]) for each in found)
    print_list(
        found,
        ("name", "kind", "state", "expires", "subject"),
        rows,
        none="no authorities yet: hubkeep cert ca add NAME FILE, or hubkeep cert ca create NAME",
        as_json=as_json,
    )


@app.command()
def show(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One authority."""
    with client_of(data, connection_string) as client:
        authority = client.get(path_of(name))
    if as_json:
        print_json(authority)
    else:
        fields = {each: authority[each] for each in _TOLD if authority[each] not in {0, ""}}
        print_fields(fields | {"speaks for": ", ".join(authority["allowedIds"]) or "all"})


@app.command()
def verify(
    name: NameArgument,
    proof: Annotated[
        Path | None, typer.Option(help="A certificate (PEM) made out to the code, signed by the authority.")
    ] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that the authority's key is in your hand: without a proof, asks for the code; with one, sends it."""
    with client_of(data, connection_string) as client:
        if proof is None:
            authority = client.request("POST", f"{path_of(name)}/challenge")
        else:
            body = {"certificate": "\n".join(read_certificates(proof))}
            authority = client.request("POST", f"{path_of(name)}/proof", body=body)
    if proof is None and not as_json:
        print_plain(authority["verificationCode"])
    else:
        _told(authority, as_json=as_json)


@app.command()
def update(
    name: NameArgument,
    state: Annotated[
        str | None,
        typer.Option(help="staged (known, not trusted), active, retiring (for those it let in before), revoked"),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A pattern of the ids that it may speak for; give it several times.")
    ] = None,
    allow_all: Annotated[bool, typer.Option("--allow-all", help="It may speak for every id.")] = False,
    days: DaysOption = None,
    crl_url: Annotated[str | None, typer.Option(help="Where its revocation list is fetched; empty: nowhere.")] = None,
    ocsp_url: Annotated[str | None, typer.Option(help="Who is asked at each login; empty: nobody.")] = None,
    approval: Annotated[
        str | None, typer.Option(help="manual: somebody approves what devices ask for (cert requests); automatic.")
    ] = None,
    revocation: Annotated[
        str | None,
        typer.Option(help="If the list or answer is not to be had: soft lets in, hard refuses; off asks not."),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change for whom an authority speaks, how it is asked, and how far it is trusted."""
    wanted = {
        "allowedIds": [] if allow_all else allow,
        "days": days,
        "crlUrl": crl_url,
        "ocspUrl": ocsp_url,
        "revocation": revocation,
    }
    body = {member: value for member, value in wanted.items() if value is not None}
    if approval is not None:
        if approval not in {"manual", "automatic"}:
            raise CommandFailure(f"{approval!r} is no kind of approval", "manual, or automatic", MISUSED)
        body["manualApproval"] = approval == "manual"
    if not body and state is None:
        raise CommandFailure("nothing to change", "see hubkeep cert ca update --help", MISUSED)
    with client_of(data, connection_string) as client:
        if body:
            authority = client.request("PATCH", path_of(name), body=body)
        if state is not None:
            authority = client.request("POST", f"{path_of(name)}/state", body={"state": state})
    _told(authority, as_json=as_json)


@app.command()
def crl(
    name: NameArgument,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A list (DER or PEM); none: show it.")] = None,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the hub the revocation list of a registered authority, or show what it knows of it."""
    with client_of(data, connection_string) as client:
        if file is None:
            told = client.get(f"{path_of(name)}/crl")
        else:
            told = client.put_bytes(f"{path_of(name)}/crl", read_file(file))
    if as_json:
        print_json(told)
    else:
        fields = {"entries": told["entries"], "number": told["number"], "good until": told["nextUpdate"]}
        print_fields(fields | {"fetched": told["fetched"], "failure": told["failure"]})


@app.command()
def delete(
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Even if devices were let in by it lately.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust an authority no more; the connections of devices below it end. A key of the hub's own is destroyed."""
    query: dict[str, object] | None = {"force": "true"} if force else None
    with client_of(data, connection_string) as client:
        client.request("DELETE", path_of(name), query, if_match="*")
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted")


def path_of(name: str) -> str:
    return f"/api/cas/{quote(name, safe='')}"


def _told(authority: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(authority)
    else:
        print_plain(f"{authority['name']} is {authority['state']}")


def _password(*, twice: bool) -> bytes:
    """Raises CommandFailure."""
    if (given := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return given.encode()
    typed = getpass.getpass("password of the root's key: ")
    if twice and getpass.getpass("again: ") != typed:
        raise CommandFailure("the two differ", status=MISUSED)
    if not typed:
        raise CommandFailure("an empty password protects nothing", status=MISUSED)
    return typed.encode()


def _now() -> Any:
    import datetime as dt  # noqa: PLC0415  # of two commands

    return dt.datetime.now(dt.UTC)
