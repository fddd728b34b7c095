"""``hubkeep cert ...``: the certificate authorities that speak for devices."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import print_fields, print_json, print_plain, print_table
from .thumbprints import certificates_in

app = typer.Typer(no_args_is_help=True, help="Certificates of devices.")
authorities = typer.Typer(
    no_args_is_help=True, help="Certificate authorities whose word counts for devices: add, list, show, verify, delete."
)
app.add_typer(authorities, name="ca")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The certificate (PEM).")]


@authorities.command()
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
    body = {"certificate": _pem(file), "isVerified": verified}
    with client_of(data, connection_string) as client:
        authority = client.request("PUT", _path(name), body=body)
    if as_json:
        print_json(authority)
    else:
        print_plain(f"{name} is {authority['state']}")
        if not verified:
            print_plain(f"prove that its key is yours: hubkeep cert ca verify {name}")


@authorities.command("list")
def list_authorities(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """All authorities."""
    with client_of(data, connection_string) as client:
        found = client.get("/api/cas")
    if as_json:
        print_json(found)
    elif not found:
        print_plain("no authorities yet: hubkeep cert ca add NAME FILE")
    else:
        rows = ((each["name"], each["state"], each["expires"][:10], each["subject"]) for each in found)
        print_table(("name", "state", "expires", "subject"), rows)


@authorities.command()
def show(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """One authority."""
    with client_of(data, connection_string) as client:
        authority = client.get(_path(name))
    if as_json:
        print_json(authority)
    else:
        told = ("name", "state", "subject", "issuer", "thumbprint", "expires", "etag")
        print_fields({each: authority[each] for each in told})


@authorities.command()
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
            authority = client.request("POST", f"{_path(name)}/challenge")
        else:
            authority = client.request("POST", f"{_path(name)}/proof", body={"certificate": _pem(proof)})
    if as_json:
        print_json(authority)
    elif proof is None:
        print_plain(authority["verificationCode"])
    else:
        print_plain(f"{name} is {authority['state']}")


@authorities.command()
def delete(
    name: NameArgument,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust an authority no more; the connections of devices below it end."""
    with client_of(data, connection_string) as client:
        client.request("DELETE", _path(name), if_match="*")
    if as_json:
        print_json({"deleted": name})
    else:
        print_plain(f"{name} is deleted")


def _path(name: str) -> str:
    return f"/api/cas/{quote(name, safe='')}"


def _pem(file: Path) -> str:
    """The certificates in a file: what else is there, a key perhaps, is not sent. Raises CommandFailure."""
    try:
        found = certificates_in(file.read_bytes())
    except OSError:
        raise CommandFailure(f"{file} cannot be read", "", MISUSED) from None
    if not found:
        raise CommandFailure(f"there is no certificate (PEM) in {file}", "openssl x509 -in FILE -out FILE.pem", MISUSED)
    return "\n".join(found)
