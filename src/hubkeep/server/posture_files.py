"""What the files of a data directory tell the posture report; a hub need not run."""

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.cloud.audit_chain import check_chain
from hubkeep.connection.root_rollover import RolloverState
from hubkeep.errors import HubError
from hubkeep.model import AUDIT_CHAINS, AuditHead, Enrolment, Outbound, ServerChain
from hubkeep.ports import Seal
from hubkeep.settings import Settings
from hubkeep.store.audit import AuditFile, opened_head

from .sealing import KEY_FILE

BACKED_UP: Final = "backup.json"
_TAIL: Final = 2000  # entries of each chain of the audit that every run looks at; all: hubkeep audit verify
_TRUSTED_TOO: Final = ("prepared", "switched")  # while a second root is in the bundle


class Roots(NamedTuple):
    """root: SHA-256 of the incoming one. bundle: the newest version of the signed bundle, and since when."""

    phase: str = "steady"
    root: str = ""
    backups: int = 0
    chain: tuple[ServerChain, ...] = ()
    bundle: int = 0
    bundle_since: float = 0.0


def roots_of(directory: Path) -> Roots:
    """Without a chain where the files cannot be read."""
    try:
        return _roots(directory)
    except (OSError, ValueError, IndexError, msgspec.MsgspecError):
        return Roots()


def _roots(directory: Path) -> Roots:
    path = directory / "certificates" / "rollover.json"
    state = msgspec.json.decode(path.read_bytes(), type=RolloverState) if path.exists() else RolloverState()
    chain = list(_chain(_place(directory, state.serving)))
    trusted = _certificates(directory / "trust-bundle.pem")
    chain += [ServerChain(each.subject.rfc4514_string(), "root", _ends(each), True) for each in trusted]
    newest = max((state.serving, state.other)) if state.phase != "steady" else 0
    root = _certificates(_place(directory, newest) / "certificates" / "root.pem")[0] if newest else None
    bundles = sorted((directory / "bundles").glob("*.jws"), key=lambda each: int(each.stem))
    return Roots(
        phase=state.phase,
        root=hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest() if root is not None else "",
        backups=int(state.phase in _TRUSTED_TOO),
        chain=tuple(chain),
        bundle=int(bundles[-1].stem) if bundles else 0,
        bundle_since=bundles[-1].stat().st_mtime if bundles else 0.0,
    )


def _chain(place: Path) -> Iterator[ServerChain]:
    for path in sorted((place / "certificates").glob("server-*.pem")):
        for number, each in enumerate(_certificates(path)):
            yield ServerChain(
                path.name, "intermediate" if number else "server", _ends(each), ".crossed" not in path.name
            )


def _place(directory: Path, generation: int) -> Path:
    return directory if generation == 1 else directory / "roots" / str(generation)


def _certificates(path: Path) -> Sequence[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes())


def _ends(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


class SealingPlace(NamedTuple):
    """Where the sealing key comes from, whether that is the database's volume, and since when it is (0: not known)."""

    source: str
    is_beside: bool
    made: float


def sealing_place(settings: Settings) -> SealingPlace:
    sealing = settings.sealing
    if sealing.key_command:
        return SealingPlace("a command gives the sealing key", False, 0.0)
    if sealing.key_variable:
        return SealingPlace("a variable holds the sealing key", False, 0.0)
    path = sealing.key_file or settings.data / "keys" / KEY_FILE
    try:
        found, database = path.stat(), settings.data.stat()
    except OSError:
        return SealingPlace(f"the sealing key is in {path.name}", sealing.key_file is None, 0.0)
    return SealingPlace(f"the sealing key is in {path.name}", found.st_dev == database.st_dev, found.st_mtime)


def audit_faults(registry: Path, seal: Seal) -> tuple[str, ...] | None:
    """What is wrong with the newest entries of the audit; None: it cannot be read."""
    try:
        audit = AuditFile(registry)
    except sqlite3.Error:
        return None
    try:
        return tuple(_audit_faults(audit, seal))
    except sqlite3.Error:
        return None
    finally:
        audit.close()


def _audit_faults(audit: AuditFile, seal: Seal) -> Iterator[str]:
    sealed = audit.sealed_heads()
    for chain in AUDIT_CHAINS:
        entries = audit.newest(chain, _TAIL)
        if chain not in sealed:
            if entries:
                yield f"the sealed end of the chain {chain} is gone"
            continue
        try:
            head = opened_head(seal, chain, sealed[chain])
        except HubError:
            yield f"the end of the chain {chain} was not sealed by this hub"
            continue
        if entries and entries[0].sequence > head.dropped + 1:
            before = entries[0].sequence - 1
            head = AuditHead(head.sequence, head.hash, before, entries[0].previous)
        yield from (f"{chain}: {each}" for each in check_chain(chain, entries, head).breaks)


def backed_up(directory: Path) -> float:
    """Unix seconds of the last backup that was made from here; 0: none."""
    try:
        return float(msgspec.json.decode((directory / BACKED_UP).read_bytes())["at"])
    except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError):
        return 0.0


def note_backup(directory: Path, at: int) -> None:
    """A note and no more: that it cannot be left makes no backup worse."""
    path = directory / f".{BACKED_UP}.new"
    with contextlib.suppress(OSError):
        path.write_bytes(msgspec.json.encode({"at": at}))
        path.replace(directory / BACKED_UP)


def outbound(settings: Settings, groups: Sequence[Enrolment]) -> Iterator[Outbound]:
    """Whom the hub reaches by itself. Lists and OCSP of authorities are signed: plain HTTP is their usual way."""
    for each in groups:
        if each.webhook is not None:
            yield Outbound(f"webhook of {each.id}", _address(each.webhook.url), _in_the_clear(each.webhook.url))
    endpoint = settings.files.options.get("endpoint", "") or settings.files.options.get("aws_endpoint", "")
    if settings.files.store in {"s3", "azure"}:
        yield Outbound("file store", _address(endpoint) or settings.files.store, _in_the_clear(endpoint))
    for network in settings.egress.allow:
        yield Outbound("egress.allow", network, "the hub may reach it though it is private, and over plain HTTP")


def _in_the_clear(url: str) -> str:
    return "without TLS" if url.lower().startswith("http:") else ""


def _address(url: str) -> str:
    """Without what may be a secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" if parts.hostname else ""
