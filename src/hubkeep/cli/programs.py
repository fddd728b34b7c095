"""``hubkeep run -- COMMAND``: a program with all that it needs to trust and reach the hub in its environment."""

import os
import shutil
import ssl
from pathlib import Path
from typing import Annotated, Final

import typer

from .client import CONNECTION_STRING_VARIABLE, TRUST_BUNDLE_VARIABLE, HubClient, HubPlace, device_path
from .devices import connection_string_of
from .failure import MISUSED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, place_of
from .output import err

_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_TRUSTSTORE_PASSWORD: Final = "changeit"  # noqa: S105  # Java's own default; the file holds public certificates


def run(
    command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND...", help="What to run.")] = None,
    device: Annotated[str, typer.Option(help="Whose connection string the program gets.")] = "first-device",
    show: Annotated[bool, typer.Option("--show", help="Print the variables instead, to copy or to source.")] = False,
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
) -> None:
    """Run a program against the hub: none of its lines need to change. Put -- before it."""
    place = place_of(data, connection_string)
    variables = environment(place, device)
    if show:
        for name, value in variables.items():
            print(f"export {name}='{value}'")
        return
    if not command:
        raise CommandFailure("no program to run", "hubkeep run -- python my_program.py", MISUSED)
    if (path := shutil.which(command[0])) is None:
        raise CommandFailure(f"there is no program {command[0]}", status=127)
    os.execve(path, command, {**os.environ, **variables})  # noqa: S606  # to run it is what was asked for


def environment(place: HubPlace, device: str) -> dict[str, str]:
    """The variables that Python, Node, .NET, Java, curl and OpenSSL programs and these clients' samples read."""
    names = (CONNECTION_STRING_VARIABLE, "IOTHUB_CONNECTION_STRING")
    values = dict.fromkeys(names, place.connection_string) if place.connection_string else {}
    values["HUBKEEP_HOST_NAME"] = place.host
    with HubClient(place) as client:
        status = client.get("/api/status")
        events = place.events_connection_string
        try:
            values["IOTHUB_DEVICE_CONNECTION_STRING"] = connection_string_of(
                client.get(device_path(device)), place.host
            )
            values["IOTHUB_DEVICE_ID"] = device
        except CommandFailure as failure:
            err.print(f"without a device's connection string: {failure.cause}", style="yellow", markup=False)
    if events:
        values |= dict.fromkeys(
            ("EVENT_HUB_CONN_STR", "EVENTHUB_CONNECTION_STRING", "EVENT_HUB_CONNECTION_STRING"), events
        )
    values |= dict.fromkeys(("EVENT_HUB_NAME", "EVENTHUB_NAME"), status["events_name"])
    values |= dict.fromkeys(("EVENTHUB_CONSUMER_GROUP", "CONSUMER_GROUP"), "$Default")
    if place.trust_bundle is not None:
        values |= _trust(place.trust_bundle, place.data or place.trust_bundle.parent)
    return values


def _trust(bundle: Path, folder: Path) -> dict[str, str]:
    """The hub's roots alone where a program adds them to its own, with the public ones where they replace those."""
    everything = _with_public_roots(bundle, folder / "trust-bundle-with-public-roots.pem")
    ours = str(Path(__file__).parent / "python_trust")
    python_path = os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))
    values = {
        TRUST_BUNDLE_VARIABLE: str(bundle.resolve()),
        "NODE_EXTRA_CA_CERTS": str(bundle.resolve()),
        "PYTHONPATH": python_path,
        "HUBKEEP_RUN_BUNDLE": everything,
    }
    values |= dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"), everything)
    if (store := _java_truststore(bundle, folder / "trust-bundle.p12")) is not None:
        options = f"-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword={_TRUSTSTORE_PASSWORD}"
        values["JAVA_TOOL_OPTIONS"] = " ".join(filter(None, (os.environ.get("JAVA_TOOL_OPTIONS"), options)))
    return values


def _with_public_roots(bundle: Path, path: Path) -> str:
    found = [ssl.get_default_verify_paths().cafile, *_SYSTEM_BUNDLES]
    public = next((Path(each) for each in found if each and Path(each).is_file()), None)
    content = bundle.read_bytes() + (public.read_bytes() if public is not None else b"")
    try:
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    except OSError:
        return str(bundle.resolve())
    return str(path.resolve())


def _java_truststore(bundle: Path, path: Path) -> str | None:
    """Java reads no PEM; only newer versions of cryptography write its truststore."""
    # slow to import, and the other commands need none
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12  # noqa: PLC0415

    serialize = getattr(pkcs12, "serialize_java_truststore", None)
    if serialize is None:
        return None
    roots = [pkcs12.PKCS12Certificate(each, None) for each in x509.load_pem_x509_certificates(bundle.read_bytes())]
    try:
        if not path.exists() or path.stat().st_mtime < bundle.stat().st_mtime:
            path.write_bytes(serialize(roots, BestAvailableEncryption(_TRUSTSTORE_PASSWORD.encode())))
    except OSError:
        return None
    return str(path.resolve())
