"""The provisioning service, put together."""

import contextlib
import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hubkeep.cloud.policies import PUBLISHED_SEED
from hubkeep.cloud.secrets import KeyFileError, read_secret
from hubkeep.connection.allocation_webhook import AllocationWebhook
from hubkeep.connection.other_hubs import HttpsOtherHubs, host_of_connection
from hubkeep.device.certification import Certification
from hubkeep.device.identities import Identities
from hubkeep.device.provisioning.allocation import Allocation, Latencies
from hubkeep.device.provisioning.elsewhere import Elsewhere
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.hub_identities import HubIdentities
from hubkeep.device.provisioning.ids import new_id_scope
from hubkeep.device.provisioning.linked_hubs import LinkedHubs
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.device.provisioning.requested import RequestedCertificates
from hubkeep.device.provisioning.tpm_proofs import TpmProofs
from hubkeep.endpoints.fetching import Asking, Fetching
from hubkeep.endpoints.http_client import HttpClient
from hubkeep.errors import BadRequest, DeviceNotFound, HubError
from hubkeep.limits import Limits
from hubkeep.messaging.twins import Twins
from hubkeep.model import Json, LinkedHub, TrustBundle
from hubkeep.ports import Clock, Egress, RecordRefusal, TwinEdit
from hubkeep.settings import Settings, SettingsError
from hubkeep.store.registry import Registry

from .data_directory import host_names

_SECRET: Final = 4096  # bytes


class Provisioning(NamedTuple):
    enrolments: Enrolments
    registrations: Registrations
    allocation: Allocation
    proofs: TpmProofs
    linked: LinkedHubs


async def open_provisioning(
    settings: Settings,
    registry: Registry,
    identities: Identities,
    certification: Certification,
    twins: Twins,
    trust_bundle: Path,
    access: Callable[[str, str], HubError | None],
    egress: Egress,
    clock: Clock,
    limits: Limits,
    up: contextlib.AsyncExitStack,
    refuse: RecordRefusal,
    *,
    published: bool,
) -> Provisioning:
    """published: the id scope derives from the published seed, as the keys do. trust_bundle: a file of PEM.

    Raises SettingsError.
    """
    authorities = certification.authorities

    def initial_twin(device_id: str, wanted: Json) -> TwinEdit:
        return _initial_twin(twins, device_id, wanted)

    def issuers() -> Collection[str]:
        return [each.name for each in authorities.own()]

    def may_register(device_id: str, issuer: bytes) -> HubError | None:
        name = next((each.name for each in authorities.active() if issuer and each.certificate == issuer), "")
        return access(device_id, name)

    wanted = settings.provisioning
    http = await up.enter_async_context(HttpClient(egress, wanted.webhook_roots))
    ask = _webhook(settings, http, clock)
    allocation = Allocation(_linked_hubs(settings), wanted.allocation, _latencies(wanted.networks), ask=ask)
    enrolments = Enrolments(registry.enrolments, authorities.active, allocation, initial_twin, issuers, clock, limits)
    await enrolments.load(new_id_scope(PUBLISHED_SEED if published else b""))
    linked = LinkedHubs(registry.linked_hubs, allocation, host_of_connection)
    await linked.load()
    others = HttpsOtherHubs(Asking(await up.enter_async_context(HttpClient(egress, wanted.hub_roots))), clock)

    async def own_twin(device_id: str) -> Json | None:
        return await _own_twin(twins, device_id)

    proofs = TpmProofs(clock, limits.registrations_per_minute)
    registrations = Registrations(
        registry.registrations,
        enrolments,
        allocation,
        HubIdentities(identities, authorities.active, initial_twin, clock, limits),
        RequestedCertificates(certification.issuing, without_policy=wanted.issue_certificates),
        proofs,
        Elsewhere(linked, others, registry.registrations, identities, own_twin, clock, refuse),
        initial_twin,
        may_register,
        lambda: _trust_bundle(trust_bundle),
        clock,
        limits,
        refuse,
        answers_at_once=wanted.answer_at_once,
        retry_after=wanted.retry_after,
    )
    return Provisioning(enrolments, registrations, allocation, proofs, linked)


def _linked_hubs(settings: Settings) -> Sequence[LinkedHub]:
    """Raises SettingsError for one that is not this hub."""
    own = {each.lower() for each in host_names(settings)}
    for each in settings.provisioning.hubs:
        if each.host_name.lower() not in own:
            raise SettingsError(f"provisioning.hubs: {each.host_name} is not one of host_names")
    linked = [
        LinkedHub(host_name=each.host_name, weight=each.weight, applies=each.takes_part)
        for each in settings.provisioning.hubs
    ]
    return linked or [LinkedHub(host_name=settings.host_name)]


def _webhook(settings: Settings, http: HttpClient, clock: Clock) -> AllocationWebhook:
    wanted, made = settings.provisioning, settings.data / "keys" / "webhook.secret"
    try:
        if wanted.webhook_secret_file is not None:
            secret = read_secret(wanted.webhook_secret_file, at_most=_SECRET)
        else:
            secret = read_secret(made, at_most=_SECRET, create=32)
        header = wanted.webhook_authorization_file
        authorization = "" if header is None else read_secret(header, at_most=_SECRET).decode("ascii")
        if not authorization.isprintable():
            raise SettingsError("provisioning.webhook_authorization_file holds no header")
    except (KeyFileError, UnicodeError) as error:
        raise SettingsError(f"provisioning: {error}") from None
    return AllocationWebhook(Fetching(http), secret, authorization, clock)


def _trust_bundle(file: Path) -> TrustBundle:
    """file: PEM."""
    content, modified = file.read_bytes(), file.stat().st_mtime
    certificates = [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(content)]
    return TrustBundle(
        id="hubkeep-servers",
        etag=sha256(b"".join(certificates)).hexdigest()[:16],
        created=min(x509.load_der_x509_certificate(each).not_valid_before_utc.timestamp() for each in certificates),
        modified=modified,
        certificates=tuple(certificates),
    )


def _latencies(networks: Mapping[str, Mapping[str, float]]) -> Sequence[Latencies]:
    return [
        Latencies(ipaddress.ip_network(network), {name.lower(): each for name, each in to.items()})
        for network, to in networks.items()
    ]


async def _own_twin(twins: Twins, device_id: str) -> Json | None:
    try:
        found = await twins.get(device_id)
    except DeviceNotFound:
        return None
    return {"tags": found.tags, "properties": {"desired": found.desired.properties}}


def _initial_twin(twins: Twins, device_id: str, wanted: Json) -> TwinEdit:
    """Raises BadRequest."""
    properties = wanted.get("properties") or {}
    if not isinstance(properties, dict):
        raise BadRequest("The properties of an initialTwin are an object.")
    tags, desired = wanted.get("tags") or {}, properties.get("desired") or {}
    return twins.edit(device_id, "", tags=tags, desired=desired, reported=None, etag="*", merge=False)
