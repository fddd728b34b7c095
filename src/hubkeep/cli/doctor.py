"""``hubkeep doctor``: what may be wrong around a hub, checked from the outside."""

import contextlib
import email.utils
import os
import shutil
import socket
import ssl
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from .client import HubClient, HubPlace
from .failure import FAILED, CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, place_of
from .output import print_json, print_plain

_SDK_PORTS = {"https": 443, "mqtt": 8883, "amqp": 5671}
_SOON = 14 * 86_400


class Finding(NamedTuple):
    state: Literal["ok", "warning", "failed"]
    what: str
    cure: str = ""


def doctor(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """Check ports, certificates as clients see them, clock, disk and files. Status 1 if something failed."""
    place = place_of(data, connection_string)
    findings = [finding for check in _CHECKS for finding in check(place)]
    if as_json:
        print_json([each._asdict() for each in findings])
    else:
        marks = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}
        for finding in findings:
            print_plain(f"{marks[finding.state]}  {finding.what}")
            if finding.cure:
                print_plain(f"         {finding.cure}")
    if any(each.state == "failed" for each in findings):
        raise typer.Exit(FAILED)


def _hub(place: HubPlace) -> Iterator[Finding]:
    try:
        with HubClient(place) as client:
            status = client.get("/api/status")
            theirs = email.utils.parsedate_to_datetime(client.server_time()).timestamp()
    except CommandFailure as failure:
        yield Finding("failed", failure.cause, failure.cure)
        return
    yield Finding("ok", f"Hubkeep {status['version']} answers, {status['connected']} devices connected")
    for reason in status["unhealthy"]:
        yield Finding("failed", reason)
    for missing in status["missing"].values():
        yield Finding("warning", missing)
    away = abs(theirs - time.time())
    if away > 60:
        yield Finding(
            "failed", f"the clocks of this machine and of the hub differ by {away:.0f} s", "tokens depend on them"
        )
    else:
        yield Finding("ok", "the clocks agree")


def _listeners(place: HubPlace) -> Iterator[Finding]:
    for kind, usual in _SDK_PORTS.items():
        port = place.ports.get(kind, 0) if place.ports else usual
        if not port:
            continue
        try:
            yield from _listener(place, kind, port)
        except ssl.SSLCertVerificationError as error:
            yield Finding(
                "failed",
                f"{kind} {port}: the certificate is not trusted for {place.host}: {error.verify_message}",
                f"clients dial a name of the certificate: start the hub with --host-name {place.host}",
            )
        except OSError as error:
            yield Finding("failed", f"{kind} {port}: {error}", "is the hub running, is a firewall between?")
        if port != usual:
            yield Finding("warning", f"{kind} is on port {port}", f"the device SDKs have port {usual} built in")


def _listener(place: HubPlace, kind: str, port: int) -> Iterator[Finding]:
    for name, version in (("TLS 1.2", ssl.TLSVersion.TLSv1_2), ("TLS 1.3", ssl.TLSVersion.TLSv1_3)):
        context = ssl.create_default_context(cafile=place.trust_bundle)
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection((place.address, port), 5) as raw,
            context.wrap_socket(raw, server_hostname=place.host) as tls,
        ):
            certificate = tls.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        if ends - time.time() < _SOON:
            yield Finding(
                "warning",
                f"{kind} {port}: the certificate ends {certificate['notAfter']}",
                "renew it, then send SIGHUP",
            )
        yield Finding("ok", f"{kind} {port}: {name}, certificate trusted for {place.host}")


def _files(place: HubPlace) -> Iterator[Finding]:
    data = place.data
    if data is None:
        return
    for path in (data / "admin", *sorted((data / "keys").glob("*"))):
        with contextlib.suppress(OSError):
            yield from _private(path)
    usage = shutil.disk_usage(data)
    free = f"{usage.free / 2**30:.1f} GiB free for {data}"
    if usage.free < min(usage.total // 20, 512 * 2**20) * 2:
        yield Finding("warning", free, "the hub stops taking messages when it is nearly full")
    else:
        yield Finding("ok", free)


def _private(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Finding("failed", f"{path} can be read by others (mode {mode:o})", f"chmod 600 {path}")


def _name(place: HubPlace) -> Iterator[Finding]:
    try:
        found = {item[4][0] for item in socket.getaddrinfo(place.host, None)}
    except OSError:
        yield Finding(
            "failed", f"{place.host} does not resolve here", f"add '{place.address} {place.host}' to /etc/hosts"
        )
        return
    dialled = {item[4][0] for item in socket.getaddrinfo(place.address, None)}
    if found & dialled:
        yield Finding("ok", f"{place.host} is {place.address}")
    else:
        yield Finding(
            "warning", f"{place.host} resolves to {', '.join(map(str, found))}, the hub listens on {place.address}"
        )
    if "." not in place.host:
        yield Finding(
            "ok", f"{place.host} has no dot: every SDK but those in C takes it", "for them: --host-name hub.localhost"
        )


def _descriptors(_place: HubPlace) -> Iterator[Finding]:
    most = os.sysconf("SC_OPEN_MAX")
    if most < 4096:
        yield Finding(
            "warning", f"a process may open {most} files", "raise the hard limit (ulimit -Hn): each connection is one"
        )


_CHECKS: tuple[Callable[[HubPlace], Iterator[Finding]], ...] = (_hub, _name, _listeners, _files, _descriptors)
