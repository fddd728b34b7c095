"""The HTTPS surface: every request through one path, address to operation to permission to handler.

Start at ``HttpsListener.handle``.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.cloud.policies import Policies
from hubkeep.cloud.posture.posture import Posture
from hubkeep.cloud.replays import Replays
from hubkeep.cloud.resealing import Resealing
from hubkeep.device.access import AccessLists
from hubkeep.device.blocking import Blocking
from hubkeep.device.bulk import BulkIdentities
from hubkeep.device.certification import Certification
from hubkeep.device.credential_uses import CredentialUses
from hubkeep.device.identities import Identities
from hubkeep.device.provisioning.allocation import Allocation
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.linked_hubs import LinkedHubs
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.device.transfers import Transfers
from hubkeep.errors import (
    BadApiVersion,
    HubError,
    MessageTooLarge,
    MethodNotAllowed,
    RequestTimeout,
    UriTooLong,
    on_wire,
)
from hubkeep.limits import HTTP_URI, Limits
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.messaging.configurations import Configurations
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.messaging.fleet_queries import FleetQueries
from hubkeep.messaging.jobs import Jobs
from hubkeep.messaging.methods import Methods
from hubkeep.messaging.retention import EventRetention
from hubkeep.messaging.routing.event_sources import EventSources
from hubkeep.messaging.twins import Twins
from hubkeep.model import AuditEntry, LinkInfo
from hubkeep.ports import Clock, Event, EventLog

from ..admission import Admission
from ..audited import AUDITED, Audited, entry_of
from ..authentication import Authentication
from ..device_tokens import DeviceTokens
from ..operations import OPERATIONS
from ..sessions import Sessions
from ..throttling import CLASSES, Throttles
from . import admin, cloud_to_device, device, files, modules, service
from . import methods as method_surface
from . import twins as twin_surface
from .access import AccessSurface
from .answers import refusal_answer, standard_headers
from .audit import AuditSurface
from .authorities import AuthoritySurface
from .blobs import BlobSurface
from .browser import BrowserSurface
from .bulk import BulkSurface
from .certificates import CertificateSurface
from .configurations import ConfigurationSurface
from .connection import HttpsConnection
from .credentials import CredentialSurface
from .device_tokens import DeviceTokenSurface
from .digital_twins import DigitalTwinSurface
from .enrolments import EnrolmentSurface
from .est import EstSurface
from .events import ConsumerGroupSurface, EventSourceSurface, RetentionSurface
from .exchange import Endpoint, Exchange, Place
from .files import FileUpload
from .fleet_records import FleetRecords
from .jobs import JobSurface
from .linked_hubs import LinkedHubSurface
from .paths import Routes, segments_of, split_target
from .people import PeopleSurface
from .policies import PolicySurface
from .posture import PostureSurface
from .proofs import Claim, LastProof
from .queries import QuerySurface
from .registration_records import RegistrationRecordSurface
from .registrations import RegistrationSurface
from .revocation import RevocationSurface
from .roots import RootSurface
from .sealing import SealingSurface
from .throttles import ThrottleSurface
from .transfers import TransferSurface
from .websocket import PATHS, LinkFactory, is_upgrade, tunnelled

log = logging.getLogger(__name__)

_STOP_WITHIN: Final = 2.0  # seconds for answers under way when the hub stops


class HttpsListener:
    """Collaborators and counters of the HTTPS surface. ``protocol`` makes one connection.

    mqtt, amqp: make the links inside WebSockets. decode_event: a stored event for people. status: of the whole hub.
    settle: see ServiceSurface. file_upload: None on a hub that keeps no files. host_names: those that clients may dial.
    address: the hub's own name, with its port if it is not 443.
    """

    def __init__(
        self,
        *,
        authentication: Authentication,
        throttles: Throttles,
        device_tokens: DeviceTokens,
        identities: Identities,
        bulk: BulkIdentities,
        transfers: Transfers,
        to_cloud: DeviceToCloud,
        to_device: CloudToDevice,
        twins: Twins,
        queries: FleetQueries,
        methods: Methods,
        jobs: Jobs,
        configurations: Configurations,
        sessions: Sessions,
        admission: Admission,
        refusals: Refusals,
        audit: AuditTrail,
        policies: Policies,
        resealing: Resealing,
        consumer_groups: ConsumerGroups,
        event_sources: EventSources,
        retention: EventRetention,
        enrolments: Enrolments,
        registrations: Registrations,
        allocation: Allocation,
        linked_hubs: LinkedHubs,
        certification: Certification,
        access: AccessLists,
        blocking: Blocking,
        credential_uses: CredentialUses,
        replays: Replays,
        log: EventLog,
        decode_event: Callable[[Event], dict[str, Any]],
        mqtt: LinkFactory,
        amqp: LinkFactory,
        trust_bundle: Path,
        roots: RootSurface,
        posture: Posture,
        people: PeopleSurface,
        status: Callable[[], dict[str, Any]],
        settle: Callable[[], Awaitable[None]],
        file_upload: FileUpload | None,
        host_names: Iterable[str],
        address: Callable[[], str],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._authentication, self._refusals, self._audit = authentication, refusals, audit
        self._throttles = throttles
        self.admission, self.clock, self.limits = admission, clock, limits
        self._tunnels: Mapping[str, LinkFactory] = {"mqtt": mqtt, "amqp": amqp}
        self.connections: set[HttpsConnection] = set()
        self.requests = 0
        self.telemetry = device.DeviceSurface(to_cloud, sessions)
        self._host_names, self._address = frozenset(host_names), address
        self._blobs: BlobSurface | None = None
        if file_upload is not None:
            self._blobs = BlobSurface(
                file_upload, authentication=authentication, refused=self.refused, clock=clock, limits=limits
            )
        endpoints = (
            *files.FileSurface(file_upload, self._dialled).endpoints(),
            *service.ServiceSurface(identities, to_device, settle).endpoints(),
            *BulkSurface(bulk, FleetRecords(twins), self._recorded).endpoints(),
            *TransferSurface(transfers).endpoints(),
            *DeviceTokenSurface(device_tokens).endpoints(),
            *modules.ModuleSurface(identities, to_device, settle).endpoints(),
            *twin_surface.TwinSurface(twins, identities, to_device, configurations, settle).endpoints(),
            *QuerySurface(queries, settle).endpoints(),
            *method_surface.MethodSurface(methods).endpoints(),
            *JobSurface(jobs, transfers, settle).endpoints(),
            *ConfigurationSurface(configurations, identities, twins, settle, limits).endpoints(),
            *DigitalTwinSurface(twins, methods, limits).endpoints(),
            *self.telemetry.endpoints(),
            *cloud_to_device.CloudToDeviceSurface(to_device, identities, sessions).endpoints(),
            *ConsumerGroupSurface(consumer_groups).endpoints(),
            *EventSourceSurface(event_sources).endpoints(),
            *RetentionSurface(retention).endpoints(),
            *PolicySurface(policies).endpoints(),
            *SealingSurface(resealing).endpoints(),
            *RegistrationSurface(registrations, authentication, limits).endpoints(),
            *EnrolmentSurface(enrolments, registrations, limits, self._recorded).endpoints(),
            *LinkedHubSurface(linked_hubs).endpoints(),
            *RegistrationRecordSurface(enrolments, registrations, allocation).endpoints(),
            *AuthoritySurface(certification.authorities, certification.own, certification.lists).endpoints(),
            *RevocationSurface(certification.published).endpoints(),
            *EstSurface(identities, certification.authorities, certification.issuing, trust_bundle).endpoints(),
            *CertificateSurface(
                identities,
                certification.authorities,
                certification.issuing,
                certification.revoking,
                certification.denials,
                certification.approvals,
                clock,
            ).endpoints(),
            *roots.endpoints(),
            *PostureSurface(posture).endpoints(),
            *people.endpoints(),
            *BrowserSurface(people.provider, authentication, people.told_of, self._dialled, clock).endpoints(),
            *AccessSurface(access, sessions, blocking).endpoints(),
            *CredentialSurface(credential_uses, identities).endpoints(),
            *AuditSurface(audit, posture.note_export).endpoints(),
            *ThrottleSurface(throttles).endpoints(),
            *admin.AdminSurface(
                refusals=refusals,
                replays=replays,
                log=log,
                decode_event=decode_event,
                trust_bundle=trust_bundle,
                status=status,
                is_spent=functools.partial(authentication.is_spent, operation="admin/events"),
            ).endpoints(),
        )
        self._routes = Routes(_routes({each.operation: each for each in endpoints}))
        self._server: web.Server | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def accepted(self) -> int:
        """Messages that devices sent over HTTPS."""
        return self.telemetry.accepted

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Requests are answered within; at the end those under way get two seconds."""
        self._server = web.Server(self.handle)
        try:
            yield
        finally:
            for connection in tuple(self.connections):
                if connection.tunnel is not None:
                    connection.tunnel.go_away()
            self._server.pre_shutdown()  # ends those that wait for a request; nobody has to wait for them
            await self._server.shutdown(_STOP_WITHIN)

    def protocol(self) -> asyncio.Protocol:
        """A factory for the TLS listener."""
        assert self._server is not None, "serving() comes first"
        return HttpsConnection(self, self._server, self._loop)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Whatever goes wrong, the peer gets a code and a tracking id, the operator the reason."""
        connection: HttpsConnection = request.protocol  # type: ignore[assignment]  # protocol() makes no other
        self.requests += 1
        exchange = Exchange(request, connection.begin(request.headers.get("User-Agent", "")))
        response: web.StreamResponse
        try:
            response = await self._answer(exchange, connection)
        except HubError as error:
            response = self._refusal(exchange, error)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("%s failed", exchange.operation)
            response = self._refusal(exchange, error)
        if not response.prepared:
            response.headers.update(standard_headers())
            if request.headers.get("Host", "").partition(":")[0].lower() == "localhost":
                # a browser would keep to it for every other server of a developer's machine
                response.headers.popall("Strict-Transport-Security", None)
        return response

    async def _answer(self, exchange: Exchange, connection: HttpsConnection) -> web.StreamResponse:
        request, place = exchange.request, connection.place
        target = request.raw_path
        if place is None or place.target != target or place.method != request.method:
            if len(target) > HTTP_URI.value:
                raise UriTooLong(reason=f"a target of {len(target)} bytes").by("L-H2")
            path, query = split_target(target)
            exchange.query = query
            if is_upgrade(request) and tuple(each.lower() for each in segments_of(path)) in PATHS:
                return await tunnelled(request, self._tunnels)
            if self._blobs is not None and self._blobs.owns(path):
                return await self._blobs.answer(exchange, path, connection.authenticated)
            match, is_dated = self._routes.find(request.method, path), _is_version(query.get("api-version", ""))
            place = Place(request.method, target, query, match, is_dated)
            if match.segments not in PATHS:  # the next request there may be an upgrade
                connection.place = place
        exchange.query, match = place.query, place.match
        endpoint = match.handler
        exchange.operation, exchange.segments, exchange.values = endpoint.operation, match.segments, match.values
        exchange.form = endpoint.form
        exchange.open_again = functools.partial(self._open, endpoint, connection.proof)
        await exchange.open_again(exchange)
        if connection.ticket is not None and exchange.principal is not None:
            connection.ticket.authenticated()
        if endpoint.dated and not place.is_dated:
            raise BadApiVersion(remedy="add ?api-version=2021-04-12").by("L-H7")
        if self._throttles.on and (kind := CLASSES.get(endpoint.operation)) is not None and exchange.principal:
            self._throttles.check(kind, exchange.principal.name, size=request.content_length or 0)
        audited = AUDITED.get(endpoint.operation)
        return await (endpoint.handle(exchange) if audited is None else self._on_record(exchange, endpoint, audited))

    async def _on_record(self, exchange: Exchange, endpoint: Endpoint, audited: Audited) -> web.StreamResponse:
        """Carry out what the audit tells of. Raises StoreUnavailable where it cannot be told: the peer asks again."""
        if audited.when == "before":
            await self._audit.record(self._entry(exchange, audited, "asked"))
            return await endpoint.handle(exchange)
        try:
            response = await endpoint.handle(exchange)
        except BaseException as error:  # whoever goes away while it is carried out has perhaps changed something
            tracking_id = self._recorded(error, exchange) if isinstance(error, HubError) else ""
            outcome = _outcome(error)
            self._audit.note(self._entry(exchange, audited, outcome, tracking_id))
            raise
        entry = self._entry(exchange, audited, str(response.status))
        if audited.when == "after":
            await self._audit.record(entry)
        else:
            self._audit.note(entry)
        return response

    def _entry(self, exchange: Exchange, audited: Audited, outcome: str, tracking_id: str = "") -> AuditEntry:
        return entry_of(
            audited.chain,
            self._audit.now(),
            exchange.principal,
            exchange.link,
            exchange.operation,
            "/".join(exchange.values.values()),
            outcome,
            detail=exchange.detail,
            tracking_id=tracking_id,
        )

    async def _open(self, endpoint: Endpoint, proof: LastProof, exchange: Exchange) -> None:
        """Settle the principal and whether it may. Raises Unauthorized, Forbidden, recorded.

        proof: what the connection remembers; it spares proving the same credential again, and nothing else.
        """
        if endpoint.credential == "none":
            return
        authentication, operation, link, token = self._authentication, endpoint.operation, exchange.link, exchange.token
        if endpoint.credential == "registering" and _says_only(exchange):
            return
        if endpoint.credential in {"registration", "registering"}:  # once in a device's life: nothing to remember
            scope, name = exchange.values["scope"], exchange.values["registration"]
            exchange.principal = await authentication.registration(scope, name, token, link, operation=operation)
            authentication.authorize(exchange.principal, operation, exchange.segments, link)
            return
        if endpoint.credential in {"enrolling", "renewing"}:
            is_renewal = endpoint.credential == "renewing"
            enrolling = await authentication.enrolling(token, link, operation=operation, is_renewal=is_renewal)
            authentication.authorize(enrolling, operation, enrolling.path, link)
            exchange.principal = enrolling
            return
        is_device = endpoint.credential == "device"
        device_id, module_id = (exchange.values["device"], exchange.values.get("module", "")) if is_device else ("", "")
        claim = Claim(endpoint.credential, device_id, module_id, authentication.changes.count)
        now = self.clock.monotonic()
        principal = proof.recall(claim, token, now)
        if principal is None:
            if is_device:
                principal = await authentication.device(device_id, module_id, token, link, operation=operation)
            else:
                principal = await authentication.service(token, link, operation=operation)
            proof.keep(claim, token, now, principal)
        exchange.principal = principal
        if principal.person is None:
            authentication.authorize(principal, operation, exchange.segments, link)
        else:
            named = exchange.values.get("id", "")
            exchange.reach = await authentication.reach(principal, operation, exchange.segments, named, link)

    def _dialled(self, request: web.BaseRequest) -> str:
        """The name and port under which the client knows the hub; its own where the client says no name of the hub."""
        host = request.headers.get("Host", "")
        name, _, port = host.partition(":")
        known = name.lower() in self._host_names and (not port or (port.isascii() and port.isdigit() and len(port) < 6))
        return host if known else self._address()

    def _refusal(self, exchange: Exchange, error: Exception) -> web.Response:
        tracking_id = ""
        if isinstance(error, HubError):
            tracking_id = self._recorded(error, exchange)
        answer = refusal_answer(error, tracking_id, self.clock.now(), form=exchange.form)
        response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        if isinstance(error, MethodNotAllowed):
            allowed = self._routes.methods(exchange.request.raw_path.partition("?")[0])
            response.headers["Allow"] = ", ".join(allowed)
        may_not_go_on = isinstance(error, MessageTooLarge | RequestTimeout | UriTooLong)
        if may_not_go_on or self._authentication.failed.blocked(exchange.link.peer.rpartition(":")[0]):
            response.force_close()
        return response

    def _recorded(self, error: HubError, exchange: Exchange) -> str:
        """For what is refused as a part of a request that is answered otherwise."""
        return self.refused(error, exchange.link, identity=exchange.identity, operation=exchange.operation)

    # -- what connections tell ---------------------------------------------------------------------------------------

    def refused(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """Record a refusal; its tracking id."""
        return self._refusals.record(error, link, identity=identity, operation=operation, **presented)

    def connection_made(self, connection: HttpsConnection) -> None:
        self.connections.add(connection)

    def connection_lost(self, connection: HttpsConnection) -> None:
        self.connections.discard(connection)


def _says_only(exchange: Exchange) -> bool:
    """Whether a device shows no credential, and its body may tell of a TPM."""
    return not exchange.token and not exchange.link.certificates and exchange.request.can_read_body


def _routes(endpoints: dict[str, Endpoint]) -> list[tuple[str, str, Endpoint]]:
    """The https rows of the table of operations with their handlers. A row without one is a mistake of ours."""
    rows = [each for each in OPERATIONS if each.surface == "https"]
    addresses = [each.address.split(" ", 1) for each in rows]
    return [(method, pattern, endpoints[row.name]) for row, (method, pattern) in zip(rows, addresses, strict=True)]


def _outcome(error: BaseException) -> str:
    if isinstance(error, HubError):
        row = on_wire(error)
        return f"{row.number} {row.name}"
    return "cut short" if isinstance(error, asyncio.CancelledError | ConnectionError) else "failed"


def _is_version(text: str) -> bool:
    """``YYYY-MM-DD`` or ``YYYY-MM-DD-preview``; any date is taken (service-protocols 2.1)."""
    date, _, suffix = text[:10], text[10:11], text[11:]
    parts = date.split("-")
    return (
        [len(part) for part in parts] == [4, 2, 2]
        and all(part.isascii() and part.isdigit() for part in parts)
        and (len(text) == 10 or (text[10] == "-" and suffix.isascii() and suffix.isalnum()))
    )
