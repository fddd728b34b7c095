"""What is read above the wires, and what each reader promises for any input: bodies, queries, certificates."""

import datetime as dt
import json
import math
import random
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from target import Check, Target

from hubkeep.connection import client_certificates
from hubkeep.connection.certificate_paths import DevicePaths
from hubkeep.connection.https import (
    authorities,
    certificates,
    configurations,
    device,
    enrolment_documents,
    events,
    fleet_records,
    jobs,
    methods,
    modules,
    policies,
    queries,
    service,
)
from hubkeep.connection.registration_documents import RegisterBody
from hubkeep.connection.strict_json import json_as, strict_json
from hubkeep.device import foreign_lists
from hubkeep.device.authorities import check_authority, common_names, read_certificate
from hubkeep.device.requests import read_request
from hubkeep.errors import BadRequest, FormatError, HubError, QueryInvalid, RequestRefused, Unauthorized
from hubkeep.limits import JSON_DEPTH, Limits
from hubkeep.messaging.twin_sections import checked, merged
from hubkeep.messaging.twins import Twins
from hubkeep.model import Authority, Identity
from hubkeep.query import document_value, evaluator, parse_condition, parse_query, parse_target

_CORPUS: Final = Path(__file__).parent / "corpus"
_NOW: Final = dt.datetime(2026, 6, 1, tzinfo=dt.UTC).timestamp()  # within the certificates of the corpus
_LIMITS: Final = Limits()


def _lines(name: str) -> list[bytes]:
    return [line for line in (_CORPUS / name).read_bytes().splitlines() if line]


# -- HTTP bodies -----------------------------------------------------------------------------------------------------

_SHAPES: Final[dict[str, Any]] = {
    shape.__name__: shape
    for shape in (
        service.DeviceBody,
        modules.ModuleBody,
        fleet_records.RecordBody,
        enrolment_documents.EnrolmentBody,
        enrolment_documents.BulkBody,
        RegisterBody,
        queries.QueryBody,
        jobs.JobBody,
        configurations.ConfigurationBody,
        methods.MethodBody,
        policies.PolicyBody,
        events.RetentionBody,
        authorities.AuthorityBody,
        certificates.RequestBody,
    )
}
_NOBODY: Any = None  # reading asks neither store nor bus nor clock
_RECORDS: Final = fleet_records.FleetRecords(Twins(_NOBODY, _NOBODY, _NOBODY, _LIMITS))
_READINGS: Final = (*_SHAPES, "Twin", "Batch")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a key stood twice"
    return dict(pairs)


_JUDGE: Final = json.JSONDecoder(object_pairs_hook=_without_twins)


def bodies(data: bytes, chance: random.Random) -> None:
    """A body has one meaning, another parser's too; what it is read as then is whole, or refused."""
    name, _, body = data.partition(b" ")
    try:
        value = strict_json(body)
    except FormatError:
        return
    if chance.random() < 0.25:
        _check_meaning(value, body)
    wanted = name.decode(errors="replace")
    wanted = wanted if wanted in _READINGS else _READINGS[int(chance.random() * len(_READINGS))]
    try:
        _read_body(wanted, value, body)
    except HubError:
        return


def _check_meaning(value: Any, body: bytes) -> None:
    assert "NaN" not in (meant := _JUDGE.decode(body.decode()), "")  # and it does not raise
    assert msgspec.json.encode(value) == msgspec.json.encode(meant), "two meanings"
    assert _depth(value) <= JSON_DEPTH.value


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_depth, inner), default=0)


def _read_body(name: str, value: Any, body: bytes) -> None:
    if name == "Twin":
        section = checked("desired", value, _LIMITS)
        assert merged(merged({}, section), section) == merged({}, section)
    elif name == "Batch":
        for item in device._array(value):
            device._from_item(item)
    elif name == "EnrolmentBody":
        read = json_as(enrolment_documents.EnrolmentBody, body)
        for is_group in (False, True):
            try:
                enrolment_documents.wanted_enrolment(read, is_group=is_group)
            except HubError:
                continue
    elif name == "RecordBody":
        _RECORDS.item(value)
    else:
        json_as(_SHAPES[name], body)


# -- the query language ----------------------------------------------------------------------------------------------

_DOCUMENT: Final[dict[str, Any]] = {
    "deviceId": "press-07",
    "status": "enabled",
    "version": 4,
    "tags": {"hall": 3, "Site": "A", "none": None, "list": [1, {"x": 2}], "yes": True},
    "properties": {"reported": {"rpm": 20.5, "$version": 4}, "desired": {"$version": 4}},
}


def query_texts(data: bytes, chance: random.Random) -> None:
    parse = parse_query if chance.random() < 0.8 else parse_target
    try:
        query = parse(data.decode(errors="replace"))
    except QueryInvalid:
        return
    if query.where is not None:
        _evaluate(query.where, null_is_false=False)


def conditions(data: bytes, chance: random.Random) -> None:
    try:
        condition = parse_condition(data.decode(errors="replace"))
    except QueryInvalid:
        return
    if condition is not None:
        _evaluate(condition, null_is_false=chance.random() < 0.5)


def _evaluate(condition: Any, *, null_is_false: bool) -> None:
    value = evaluator(condition, document_value, null_is_false=null_is_false)(_DOCUMENT)
    assert not isinstance(value, float) or math.isfinite(value), f"{value} is no value"


# -- certificates ----------------------------------------------------------------------------------------------------


def _pem(label: str) -> list[bytes]:
    """The corpus' blocks of a kind."""
    end = f"-----END {label}-----"
    text = (_CORPUS / "certificates.pem").read_text()
    return [f"-----BEGIN {label}-----{part.partition(end)[0]}{end}\n".encode() for part in
            text.split(f"-----BEGIN {label}-----")[1:]]  # fmt: skip


_CERTIFICATES: Final = [x509.load_pem_x509_certificate(each) for each in _pem("CERTIFICATE")]
_DER: Final = [each.public_bytes(Encoding.DER) for each in _CERTIFICATES]
_REQUESTS: Final = [x509.load_pem_x509_csr(each) for each in _pem("CERTIFICATE REQUEST")]
_KEYS: Final = frozenset(
    each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for each in _REQUESTS
)
_LISTS: Final = [x509.load_pem_x509_crl(each) for each in _pem("X509 CRL")]
_ROOT: Final = Authority(
    name="plant", certificate=_DER[0], sha256="", state="active", etag="", created=0, updated=0
)  # fmt: skip
_TRUSTED: Final = (_ROOT,)
_PATHS: Final = DevicePaths(lambda: _TRUSTED)
_BELOW: Final = Identity(device_id="press-07", authentication="certificateAuthority")
_GENUINE: Final = frozenset(_DER)


def device_certificates(data: bytes, chance: random.Random) -> None:
    """Nothing but a certificate as it was issued proves an identity; whatever else is presented is refused by name."""
    others = [data] if chance.random() < 0.2 else _DER[1:2]
    leaf = _DER[3] if others[0] is data else data
    if chance.random() < 0.2:
        client_certificates.described([leaf])
    try:
        client_certificates.prove(_BELOW, [leaf, *others], _NOW, _PATHS)
    except Unauthorized as refusal:
        assert refusal.reason
    else:
        assert leaf in _GENUINE, "a certificate that nobody issued proved an identity"


def authority_certificates(data: bytes, _: random.Random) -> None:
    try:
        read = read_certificate(data)
        common_names(read)
        check_authority(read, _NOW)
    except BadRequest:
        return


def requests(data: bytes, _: random.Random) -> None:
    try:
        request = read_request(data)
    except RequestRefused:
        return
    key = request.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key in _KEYS, "a key was taken whose holder did not sign for it"


def revocation_lists(data: bytes, _: random.Random) -> None:
    try:
        read = foreign_lists._read(data, _ROOT)
    except BadRequest:
        return
    assert read.serials == frozenset({5, 1 << 70}), "a list was taken that the authority did not sign"


def _plain(corpus: list[bytes], check: Check) -> Target:
    return Target([(b"", each) for each in corpus], check)


READERS: dict[str, Target] = {
    "bodies": _plain(_lines("bodies.txt"), bodies),
    "queries": _plain(_lines("queries.txt"), query_texts),
    "conditions": _plain(_lines("conditions.txt"), conditions),
    "device-certificates": _plain(_DER, device_certificates),
    "authority-certificates": _plain([*_DER, *_pem("CERTIFICATE")], authority_certificates),
    "certificate-requests": _plain(
        [each.public_bytes(Encoding.DER) for each in _REQUESTS] + _pem("CERTIFICATE REQUEST"), requests
    ),
    "revocation-lists": _plain(
        [each.public_bytes(Encoding.DER) for each in _LISTS] + _pem("X509 CRL"), revocation_lists
    ),
}
