"""``hubkeep provision``: everything that a new device needs, for one or for a manifest of thousands, in one command."""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Any, Final

import typer
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .certificate_files import (
    key_pem,
    new_key,
    new_request,
    new_self_signed,
    read_certificates,
    read_file,
    write_public,
    write_whole,
)
from .client import HubClient
from .failure import MISUSED, UNREACHABLE, CommandFailure
from .options import (
    DEFAULT_DATA,
    ConnectionStringOption,
    DataOption,
    JsonOption,
    client_of,
    provisioning_client_of,
)
from .output import print_fields, print_json, print_plain, progress_bar
from .provisioning_entries import EXISTS, Enrolments, Entries, Identities
from .provisioning_manifest import ManifestDevice, check_id, read_manifest
from .provisioning_results import Record, Results, results_in
from .thumbprints import thumbprint_from

_KEY_BYTES: Final = 32
_SELF_SIGNED_DAYS: Final = 3650.0
_THROTTLED: Final = 429
_WAIT: Final = 2.0  # seconds, when the hub issues no more certificates in this minute
_BROKEN: Final = 500  # and above: not of the device, so the run ends and goes on later


class Proof(StrEnum):
    """By what a device proves who it is."""

    key = "key"
    certificate = "certificate"
    thumbprint = "thumbprint"


class _Station:
    """Where one run makes devices. out: the folder of private keys and certificates."""

    def __init__(
        self, client: HubClient, entries: Entries, results: Results, proof: Proof, out: Path, making: dict[str, Any]
    ) -> None:
        self._client, self._entries, self._results = client, entries, results
        self._proof, self._out, self._making = proof, out, making

    def provision(self, devices: Sequence[ManifestDevice], advance: Callable[[int], None]) -> None:
        """Every device ends with a record that says provisioned or refused."""
        for start in range(0, len(devices), self._entries.at_once):
            batch = devices[start : start + self._entries.at_once]
            begun_before = {each.id for each in batch if self._may_be_there(each)}
            records = list(self._started(batch))
            self._results.keep(records)
            ready = [each for each in records if each["status"] == "started"]
            self._results.keep(self._entered(ready, {each.id: each for each in batch}, begun_before, advance))
            advance(len(records) - len(ready))

    def _may_be_there(self, device: ManifestDevice) -> bool:
        record = self._results.of(device.id) or {}
        return record.get("status") == "started" or bool(record.get("entered"))

    def _started(self, batch: Sequence[ManifestDevice]) -> Iterator[Record]:
        """A record of each, with all that is secret or random: what is asked for again must be the same."""
        for device in batch:
            known = self._results.of(device.id) or {}
            record = {"id": device.id, "status": "started", "entry": self._making["entry"], "by": self._proof.value}
            record |= {"tags": device.tags}
            try:
                if known and (known["by"], known["entry"]) != (record["by"], record["entry"]):
                    raise CommandFailure("an earlier run made it another way", "name another file: --results")
                record |= self._material(device, known)
                yield record
            except CommandFailure as failure:
                yield _refused(record, failure.cause)

    def _material(self, device: ManifestDevice, known: Record) -> Record:
        if self._proof is Proof.key:
            return {
                "primaryKey": device.primary_key or known.get("primaryKey") or _random_key(),
                "secondaryKey": device.secondary_key or known.get("secondaryKey") or _random_key(),
            }
        if self._proof is Proof.thumbprint and device.certificate:
            return {
                "certificate": read_certificates(device.certificate)[0],
                "thumbprint": thumbprint_from(str(device.certificate)),
            }
        if self._proof is Proof.thumbprint and device.thumbprint:
            if self._making["entry"] == "enrollment":
                raise CommandFailure("an enrollment needs the certificate itself, not its thumbprint")
            return {"thumbprint": thumbprint_from(device.thumbprint)}
        files = {"certificateFile": str(self._out / f"{device.id}.pem")}
        if self._proof is Proof.certificate and device.csr:
            return files
        key_file = self._out / f"{device.id}.key"
        if key_file.exists() and known.get("keyFile") != str(key_file):
            raise CommandFailure(f"{key_file} is there already, and no earlier run made it")
        return files | {"keyFile": str(key_file)}

    def _entered(
        self,
        records: Sequence[Record],
        devices: dict[str, ManifestDevice],
        begun_before: set[str],
        advance: Callable[[int], None],
    ) -> Iterator[Record]:
        made, ended = [], []
        for record in records:
            try:
                made.append(record | self._files(record))
            except CommandFailure as failure:
                ended.append(_refused(record, failure.cause))
        refused = self._entries.create(made, {each["id"]: devices[each["id"]].tags for each in made}) if made else {}
        for entered in made:
            record = entered
            reason = refused.get(record["id"], "")
            if reason == EXISTS and record["id"] in begun_before and self._entries.is_ours(record):
                reason = ""
            if not reason:
                try:
                    record = record | self._issued(record, devices[record["id"]])
                except CommandFailure as failure:
                    if failure.status == UNREACHABLE or failure.answered >= _BROKEN:
                        raise
                    record, reason = record | {"entered": True}, failure.cause
            ended.append(_refused(record, reason) if reason else _provisioned(record, self._entries.told(record)))
            advance(1)
        yield from ended

    def _files(self, record: Record) -> Record:
        """The private key, made here unless an earlier run did, and for a thumbprint its certificate."""
        if "keyFile" not in record:
            return {}
        key_file = Path(record["keyFile"])
        if not key_file.exists():
            write_whole(key_file, key_pem(new_key(self._making["algorithm"])))
        if self._proof is not Proof.thumbprint:
            return {}
        certificate = Path(record["certificateFile"])
        if not certificate.exists():
            days = self._making["days"] or _SELF_SIGNED_DAYS
            write_whole(certificate, new_self_signed(_key_in(key_file), record["id"], days).encode())
        return {"certificate": certificate.read_text(), "thumbprint": thumbprint_from(str(certificate))}

    def _issued(self, record: Record, device: ManifestDevice) -> Record:
        """A certificate of the hub's own authority. Within the hour, the same request gets the same one."""
        if self._proof is not Proof.certificate:
            return {}
        if device.csr:
            request = read_file(device.csr).decode(errors="replace")
        else:
            request = new_request(_key_in(Path(record["keyFile"])), device.id)
        body = {
            "deviceId": device.id,
            "moduleId": "",
            "csr": request,
            "authority": self._making["ca"],
            "days": self._making["days"] or 0,
        }
        issued = self._asked(body)
        write_public(Path(record["certificateFile"]), "".join(issued["chain"][:-1] or issued["chain"]))
        return {"expires": issued["expires"], "serial": issued["serial"], "authority": issued["authority"]}

    def _asked(self, body: dict[str, Any]) -> Any:
        while True:
            try:
                return self._client.request("POST", "/api/certificates", body=body)
            except CommandFailure as failure:
                if failure.answered != _THROTTLED:
                    raise
                time.sleep(_WAIT)


def provision(
    device: Annotated[str, typer.Argument(metavar="[ID]", help="One device's id.")] = "",
    manifest: Annotated[
        Path | None, typer.Option(help="Many devices: CSV with a header, or one JSON object a line.")
    ] = None,
    template: Annotated[
        str, typer.Option("--id", help="The id made of columns of the manifest: 'press-{serial}'. If not given: 'id'.")
    ] = "",
    proof: Annotated[
        Proof,
        typer.Option(
            "--by",
            help="Proves itself by a symmetric key, a certificate of the hub's own authority, or any certificate, by "
            "its thumbprint.",
        ),
    ] = Proof.key,
    enroll: Annotated[
        bool, typer.Option("--enroll", help="As an enrollment: the device registers itself, and finds its hub.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder for private keys and certificates.")] = Path(),
    results: Annotated[
        Path | None, typer.Option(help="What each device was given, a line each; for you alone (NAME.provisioned).")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="Of new keys: P-256, P-384, RSA-2048 or RSA-3072.")] = "P-256",
    days: Annotated[float | None, typer.Option(help="How long certificates last.")] = None,
    ca: Annotated[str, typer.Option(help="The authority that issues; the newest if not given.")] = "",
    data: DataOption = DEFAULT_DATA,
    connection_string: ConnectionStringOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give devices an identity: entry at the hub, key or certificate, and a line about each in a file of results.

    What was cut short goes on where it stopped when the command is given again, with the same keys; a device that is
    provisioned stays as it is, one that was refused is tried again.
    """
    if bool(device) == (manifest is not None):
        raise CommandFailure("one device or many?", "hubkeep provision ID, or --manifest FILE", MISUSED)
    if enroll and proof is Proof.certificate:
        cure = "--by thumbprint or key; or a group for the authority: hubkeep enroll create NAME --group --ca CA"
        raise CommandFailure("the hub's authority issues to identities, not to single enrollments", cure, MISUSED)
    if proof is not Proof.key:
        new_key(algorithm)  # refuses one that is not known, before anything is written
    if manifest is None:
        check_id(device, "hubkeep provision")
        devices = [ManifestDevice(device)]
    else:
        devices = read_manifest(manifest, template)
    file = results or (out / f"{device}.provisioned" if manifest is None else Path(f"{manifest}.provisioned"))
    entry = "enrollment" if enroll else "identity"
    making = {"entry": entry, "algorithm": algorithm, "days": days, "ca": ca}
    client = (provisioning_client_of if enroll else client_of)(data, connection_string)
    with client, results_in(file) as kept:
        open_ = [each for each in devices if (kept.of(each.id) or {}).get("status") != "provisioned"]
        entries: Entries = Enrolments(client) if enroll else Identities(client)
        with progress_bar("provisioned", len(devices)) as (bar, task):
            bar.advance(task, len(devices) - len(open_))
            station = _Station(client, entries, kept, proof, out, making)
            station.provision(open_, lambda count: bar.advance(task, count))
        kept.finish([each.id for each in devices])
        ended = [kept.of(each.id) or {} for each in devices]
    _tell(ended, len(devices) - len(open_), file, single=manifest is None, as_json=as_json)


def _tell(ended: Sequence[Record], before: int, file: Path, *, single: bool, as_json: bool) -> None:
    refused = [each for each in ended if each["status"] != "provisioned"]
    if as_json:
        counts = {"provisioned": len(ended) - len(refused), "refused": len(refused), "before": before}
        print_json({**counts, "results": str(file)})
    elif single and not refused:
        shown = {"id scope": ended[0].get("idScope"), "registration id": ended[0].get("registrationId")}
        shown |= {"key": ended[0].get("keyFile"), "certificate": ended[0].get("certificateFile"), "all of it": file}
        print_plain(ended[0].get("connectionString") or "")
        print_fields(shown)
    else:
        earlier = f" ({before} of them before)" if before else ""
        print_plain(f"{len(ended) - len(refused)} of {len(ended)} devices are provisioned{earlier}: {file}")
    if refused:
        first = refused[0]
        raise CommandFailure(
            f"{len(refused)} of {len(ended)} were refused: {first['id']}: {first['error']}",
            f"{file} says why of each; the same command tries these again",
        )


def _provisioned(record: Record, told: Record) -> Record:
    kept = {name: value for name, value in record.items() if name != "certificate"}
    return kept | {"status": "provisioned"} | told


def _refused(record: Record, reason: str) -> Record:
    kept = {name: value for name, value in record.items() if name != "certificate"}
    return kept | {"status": "refused", "error": reason}


def _random_key() -> str:
    return b64encode(token_bytes(_KEY_BYTES)).decode()


def _key_in(file: Path) -> Any:
    try:
        return load_pem_private_key(read_file(file), None)
    except ValueError:
        raise CommandFailure(f"{file} is no private key") from None
