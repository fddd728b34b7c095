"""The composition root: the only file that names concrete adapters. Reading ``running`` shows the system."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hubkeep import __version__
from hubkeep.background import ActivityJob, DiskJob, RetentionJob, every
from hubkeep.bus.in_process import InProcessBus
from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.cloud.policies import Policies, from_anywhere
from hubkeep.cloud.replays import Replays
from hubkeep.cloud.right_uses import RightUses
from hubkeep.connection import transports
from hubkeep.connection.admission import Admission, Arrivals, FailedLogins, FailedPairs, counted_source
from hubkeep.connection.amqp.listener import AmqpListener
from hubkeep.connection.authentication import Authentication
from hubkeep.connection.changes import Changes
from hubkeep.connection.clock import SystemClock
from hubkeep.connection.deliveries import Deliveries
from hubkeep.connection.device_registrations import DeviceRegistrations
from hubkeep.connection.device_tokens import DeviceTokens
from hubkeep.connection.device_twins import DeviceTwins
from hubkeep.connection.event_encoding import AmqpEventEncoding, described
from hubkeep.connection.https.files import FileUpload
from hubkeep.connection.https.health import HealthPages
from hubkeep.connection.https.listener import HttpsListener
from hubkeep.connection.https.people import PeopleSurface
from hubkeep.connection.https.roots import RootSurface
from hubkeep.connection.mqtt.listener import MqttListener
from hubkeep.connection.registration_credentials import RegistrationCredentials
from hubkeep.connection.sessions import Sessions
from hubkeep.connection.tls import ListenerContexts
from hubkeep.connection.turns import Turns
from hubkeep.device.access import AccessLists
from hubkeep.device.blocking import Blocking
from hubkeep.device.bulk import BulkIdentities
from hubkeep.device.credential_uses import CredentialUses
from hubkeep.device.identities import Identities
from hubkeep.device.trust_proofs import TrustProofs
from hubkeep.errors import StoreUnavailable
from hubkeep.limits import Limits
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.messaging.configuration_runner import ConfigurationRunner
from hubkeep.messaging.configurations import Configurations
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.messaging.edge_deployments import EdgeDeployments
from hubkeep.messaging.feedback import FeedbackBatches
from hubkeep.messaging.file_notifications import FileNotifications
from hubkeep.messaging.files import Files
from hubkeep.messaging.fleet_queries import FleetQueries
from hubkeep.messaging.groups import DeviceGroups
from hubkeep.messaging.job_runner import JobRunner
from hubkeep.messaging.jobs import Jobs
from hubkeep.messaging.methods import Methods
from hubkeep.messaging.retention import EventRetention
from hubkeep.messaging.routing.event_sources import EventSources
from hubkeep.messaging.routing.hub_events import HubEvents, short_name
from hubkeep.messaging.routing.relay import EventRelay
from hubkeep.messaging.routing.table import RoutingTable
from hubkeep.messaging.trust_announcements import TrustAnnouncements
from hubkeep.messaging.twins import Twins
from hubkeep.messaging.uploads import Uploads
from hubkeep.metrics import HubMetrics, registry_of
from hubkeep.model import LinkInfo, Principal, Retention, Usage
from hubkeep.ports import Bus, Clock
from hubkeep.settings import Settings
from hubkeep.store.blobs import open_blobs
from hubkeep.store.event_log import SqliteEventLog
from hubkeep.store.posture_facts import RegistryPosture
from hubkeep.store.registry import Registry, locked, open_registry

from .certification import device_trust, opened_certification, sealed_keys
from .data_directory import describe, host_names, leave_admin, prepare
from .event_loss import tell_accepted_loss
from .failures import StartFailure, start_failures
from .fleet_moves import egress_of, fleet_moves
from .health import samples, status, unhealthy
from .hub import Hub
from .listening import doors, listen, listen_metrics, most_connections, see_off
from .people import opened_sign_in
from .posture import HubState, in_turn, limits_used, opened_posture
from .provisioning import open_provisioning
from .sealing import open_ring, resealing
from .server_roots import noted_by, opened_rollover, signed_bundle
from .throttling import limits_of, throttles_of

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Hub]:
    """A hub that accepts devices. Built bottom-up; taken down in reverse, whatever fails.

    Raises StartFailure, SettingsError, HubError for a store that cannot be opened.
    """
    async with contextlib.AsyncExitStack() as up:
        clock = clock or SystemClock()
        limits, egress = limits_of(settings), egress_of(settings)
        directory = settings.data
        routing = RoutingTable()
        description = prepare(directory, settings)
        with start_failures():
            up.enter_context(locked(directory))
            seal = open_ring(settings.sealing, directory / "keys", create=description is None)
            registry = await up.enter_async_context(
                open_registry(
                    directory / "registry.db",
                    seal,
                    is_expected=description is not None,
                    tells=HubEvents(routing, clock),
                )
            )
        published = settings.mode == "dev" and settings.on_loopback
        bus = InProcessBus()
        policies = Policies(registry.policies, bus)
        await policies.load(published=published)
        event_log = SqliteEventLog(
            directory / "events.db",
            partitions=settings.events.partitions,
            clock=clock,
            cache_bytes=limits.event_cache,
            uncommitted_limit=limits.uncommitted_bytes,
        )
        with start_failures():
            await event_log.open(is_expected=description is not None)
        up.push_async_callback(event_log.close)

        audit = AuditTrail(registry.audit, clock, limits)
        up.push_async_callback(audit.finish)
        audit.of_hub("hub/start", f"version {__version__}, mode {settings.mode}")
        await tell_accepted_loss(directory, audit)
        refusals = Refusals(registry.refusals, clock, limits.refusals_kept, audit.refused)
        replays = Replays(registry.replays, clock, limits)
        identities = Identities(registry.identities, bus, clock, limits)
        event_sources = EventSources(registry.event_sources, routing, settings.events.sources)
        await event_sources.load()
        retention = EventRetention(
            registry.retention, Retention(settings.events.retention_hours, settings.events.retention_bytes)
        )
        await retention.load()
        await registry.identities.disconnect_all(clock.now())
        consumer_groups = ConsumerGroups(registry.consumer_groups, bus, clock, limits, settings.events.consumer_groups)
        await consumer_groups.load()
        certification = await opened_certification(settings, registry, seal, bus, egress, clock, limits, up)
        encoding = AmqpEventEncoding()
        relay = EventRelay(
            registry.outbox,
            event_log,
            encoding,
            hub_name=short_name(settings.host_name),
            keep_seconds=lambda: retention.now.hours * 3600,
            clock=clock,
        )
        to_cloud = DeviceToCloud(event_log, encoding, clock, limits)
        to_device = CloudToDevice(registry.queues, bus, clock, limits, count_lapsed_locks=settings.count_lapsed_locks)
        feedback = FeedbackBatches(registry.queues, bus, clock, limits, settings.host_name)
        deliveries = Deliveries(to_device, bus)
        twins = Twins(registry.twins, bus, clock, limits)
        methods = Methods(registry.identities, bus, clock, limits)
        queries = FleetQueries(registry.fleet, registry.jobs, registry.configurations, to_device.counts, clock)
        jobs = Jobs(registry.jobs, queries, methods, clock, limits)
        runner = JobRunner(registry.jobs, jobs, queries, methods, twins, clock, limits)
        configurations = Configurations(registry.configurations, queries, clock, limits)
        edges = EdgeDeployments(registry.configurations, queries, twins, identities.ensure_module)
        configurer = ConfigurationRunner(
            registry.configurations, configurations, queries, twins, edges, bus, clock, limits
        )
        bulk = BulkIdentities(identities, registry.identities, bus, limits)
        moves = await fleet_moves(registry, bulk, twins, configurations, egress, clock, limits, up)
        changes = Changes(clock)
        groups = DeviceGroups(registry.fleet)
        access = AccessLists(registry.access, identities, groups, bus, clock, limits)
        await access.load()
        credential_uses = CredentialUses(registry.credential_uses, groups, bus, clock)
        right_uses = RightUses(registry.posture, clock)
        sessions = Sessions(bus, changes, access.refusal, clock, limits)
        sign_in = await opened_sign_in(settings, registry, groups, bus, clock, limits, up)
        names = host_names(settings)
        rollover = opened_rollover(settings, names, clock, limits)
        proofs = TrustProofs(registry.trust_proofs, clock)
        announcements = TrustAnnouncements(queries, twins, bus)
        provisioning = await open_provisioning(
            settings,
            registry,
            identities,
            certification,
            twins,
            rollover.trust_bundle,
            access.refusal_to_register,
            egress,
            clock,
            limits,
            up,
            refusals.record,
            published=published,
        )
        source = counted_source(loopback=settings.listeners.count_loopback)

        def accepted(principal: Principal, token: str | None, link: LinkInfo) -> None:
            replays.accepted(principal, token, link)
            audit.logged_in(principal, link)

        trust = device_trust(certification, identities, clock)
        turns = Turns()
        authentication = Authentication(
            registry.identities,
            policies.get if settings.policy_networks else lambda name: from_anywhere(policies.get(name)),
            trust,
            RegistrationCredentials(
                provisioning.enrolments, provisioning.proofs, certification.denials.find, trust.check_revocation, clock
            ),
            people=sign_in.people,
            host_names=[*names, rollover.canary_name] if rollover.canary_name else names,
            events_name=settings.events.name,
            clock=clock,
            limits=limits,
            changes=changes,
            access=access.refusal,
            used=noted_by(credential_uses.note, proofs.note),
            accepted=accepted,
            used_right=right_uses.note,
            failed=FailedLogins(limits, clock, source),
            failed_pairs=FailedPairs(clock, source),
            refuse=refusals.record,
            turns=turns,
        )
        admission = Admission(
            limits, most_connections(), authentication.failed.blocked, Arrivals(limits, clock), source
        )
        tls = ListenerContexts(rollover.chains, settings.tls)
        rollover.serve(tls, lambda chains: ListenerContexts(chains, settings.tls))
        transports.keep_quiet_about_handshakes(asyncio.get_running_loop())

        throttles = throttles_of(settings.throttles, clock)
        device_twins = DeviceTwins(twins, authentication, throttles, refusals.record, clock)
        device_registrations = DeviceRegistrations(
            provisioning.registrations, authentication, clock, limits, refusals.record
        )
        mqtt = MqttListener(
            authentication=authentication,
            to_cloud=to_cloud,
            log=event_log,
            encoding=encoding,
            deliveries=deliveries,
            subscriptions=registry.subscriptions,
            twins=device_twins,
            registrations=device_registrations,
            bus=bus,
            sessions=sessions,
            admission=admission,
            throttles=throttles,
            refuse=refusals.record,
            clock=clock,
            limits=limits,
            lenient_subscriptions=settings.lenient_subscriptions,
        )
        amqp = AmqpListener(
            authentication=authentication,
            to_cloud=to_cloud,
            log=event_log,
            deliveries=deliveries,
            twins=device_twins,
            registrations=device_registrations,
            bus=bus,
            sessions=sessions,
            admission=admission,
            throttles=throttles,
            refuse=refusals.record,
            audit=audit.note,
            clock=clock,
            limits=limits,
            host_name=settings.host_name,
            events_name=settings.events.name,
            consumer_groups=consumer_groups,
            created=event_log.created,
        )
        signing_keys = sealed_keys(settings, seal)
        reseal = resealing(settings.sealing, directory / "keys", seal, registry.sealed, registry.audit, signing_keys)
        hub = Hub(settings, policies, tls, identities, refusals, amqp.readers, rollover.trust_bundle, certification)
        file_upload = await _file_upload(settings, registry, bus, clock, limits, hub.address, up)
        hub.file_upload, hub.id_scope = file_upload, provisioning.enrolments.id_scope
        hub.throttles = throttles
        activity = ActivityJob(sessions.take_activity, registry.identities, refusals, limits)

        async def usages() -> Sequence[Usage]:
            return limits_used(limits, await identities.count(), admission.open, len(policies.all()))

        posture = opened_posture(
            settings,
            registry.posture,
            RegistryPosture(directory / "registry.db", seal),
            HubState(
                settings,
                registry.posture,
                policies,
                seal,
                groups=registry.enrolments.groups,
                authorities=certification.authorities.all,
                list_of=certification.lists.status,
                usages=usages,
                resealing_failure=lambda: reseal.state.failure,
                began=event_log.created / 1000,
            ),
            clock,
            in_turn(activity.settle, credential_uses.flush_all, right_uses.flush, proofs.flush, audit.flush),
        )
        https = HttpsListener(
            authentication=authentication,
            throttles=throttles,
            device_tokens=DeviceTokens(authentication, identities, policies, settings.host_name, clock, limits),
            identities=identities,
            bulk=bulk,
            transfers=moves.transfers,
            to_cloud=to_cloud,
            to_device=to_device,
            twins=twins,
            queries=queries,
            methods=methods,
            jobs=jobs,
            configurations=configurations,
            sessions=sessions,
            admission=admission,
            refusals=refusals,
            audit=audit,
            policies=policies,
            resealing=reseal,
            consumer_groups=consumer_groups,
            event_sources=event_sources,
            retention=retention,
            enrolments=provisioning.enrolments,
            registrations=provisioning.registrations,
            allocation=provisioning.allocation,
            linked_hubs=provisioning.linked,
            certification=certification,
            access=access,
            blocking=Blocking(
                identities,
                provisioning.enrolments,
                registry.registrations,
                certification.revoking,
                certification.denials,
                clock,
            ),
            credential_uses=credential_uses,
            replays=replays,
            log=event_log,
            decode_event=described,
            mqtt=mqtt.protocol,
            amqp=amqp.protocol,
            trust_bundle=rollover.trust_bundle,
            roots=RootSurface(
                rollover,
                signed_bundle(settings, rollover, hub.id_scope, clock),
                proofs,
                announcements,
                hub.address,
                lambda: hub.ports["mqtt"],
            ),
            posture=posture,
            people=PeopleSurface(sign_in.people.roles, settings.people, sign_in.provider),
            status=lambda: status(hub, event_log, registry, sessions, retention.now),
            settle=activity.settle,
            file_upload=file_upload,
            host_names=names,
            address=hub.address,
            clock=clock,
            limits=limits,
        )
        up.push_async_callback(see_off, lambda: (*mqtt.links, *amqp.links, *https.connections))
        await up.enter_async_context(https.serving())
        metrics = HubMetrics(
            lambda: samples(event_log, admission, throttles, sessions, refusals, relay, replays, mqtt, amqp, https)
        )
        pages = HealthPages(registry_of(metrics), lambda: unhealthy(event_log, registry, certification.own))
        health = await up.enter_async_context(pages.serving())

        background = await up.enter_async_context(_job_group())
        up.callback(_cancel_all, tasks := [])
        disk = DiskJob(directory, (event_log, registry), limits)
        await disk.run()
        retaining = RetentionJob(
            event_log,
            clock,
            lambda: retention.now,
            last_enqueued=max(event_log.state(each).last_enqueued for each in range(event_log.partitions)) / 1000,
        )

        async def mqtt_deadlines() -> None:
            mqtt.check()

        async def amqp_deadlines() -> None:
            amqp.check()

        for seconds, job, name in (
            (0.1, mqtt_deadlines, "deadlines of MQTT"),
            (1.0, amqp_deadlines, "deadlines of AMQP"),
            (1.0, activity.run, "activity"),
            (1.0, disk.run, "disk"),
            (1.0, access.tend, "access lists"),
            (1.0, credential_uses.flush, "credential uses"),
            (1.0, replays.flush, "replays"),
            (10.0, right_uses.flush, "uses of rights"),
            (1.0, audit.flush, "audit"),
            (3600.0, audit.tell_heads, "ends of the audit"),
            (1.0, to_device.tend, "cloud-to-device"),
            (1.0, feedback.tend, "feedback"),
            (600.0, provisioning.registrations.sweep, "registrations"),
            (5.0, provisioning.registrations.under_way.end_lost, "registrations under way"),
            (1.0, certification.uses.flush, "uses of certificates"),
            (1.0, proofs.flush, "proofs of trust"),
            (3600.0, certification.denials.tidy, "the deny-list"),
            (3600.0, certification.approvals.tidy, "certificate requests"),
            (30.0, certification.lists.fetch_due, "revocation lists"),
            (10.0, certification.own.probe, "keys in tokens"),
        ):
            tasks.append(background.create_task(every(seconds, job, name)))
        tasks.append(background.create_task(every(60.0, retaining.run, "retention", sooner=retention.changed)))
        if settings.posture.daily:
            tasks.append(background.create_task(every(600.0, posture.run_daily, "posture")))
        if sign_in.keys is not None:
            tasks.append(background.create_task(every(60.0, sign_in.keys.renew, "keys of the provider")))
        if file_upload is not None:
            tasks.append(background.create_task(every(60.0, file_upload.files.sweep, "uploads")))
        tasks.append(background.create_task(_scrub(event_log)))
        tasks.append(background.create_task(configurer.run()))
        tasks.append(background.create_task(moves.runner.run()))
        tasks.append(background.create_task(reseal.run()))
        tasks.append(background.create_task(relay.run()))
        up.push_async_callback(relay.finish)
        up.push_async_callback(provisioning.registrations.under_way.close)
        tasks.append(background.create_task(access.follow()))
        tasks.append(running_jobs := background.create_task(runner.run()))
        up.push_async_callback(activity.run)
        up.push_async_callback(certification.uses.flush)
        up.push_async_callback(proofs.flush)
        up.push_async_callback(credential_uses.flush_all)
        up.push_async_callback(replays.flush)

        listening = settings.listeners
        door_of = doors(settings, refusals.record, clock, authentication.failed.blocked)
        wanted: list[tuple[str, int | None, Callable[[], asyncio.BaseProtocol], Any]] = [
            ("https", listening.https_port, https.protocol, tls.of("https")),
            ("mqtt", listening.mqtt_port, mqtt.protocol, tls.of("mqtt")),
            ("amqp", listening.amqp_port, amqp.protocol, tls.of("amqp")),
            ("plain_amqp", listening.plain_amqp_port, amqp.protocol, None),
        ]
        for kind, port, factory, context in wanted:
            if port is not None:
                within = limits.handshake_within
                await listen(hub, up, kind, port, factory, context, door_of[kind], admission, turns, within)
        tasks.append(background.create_task(announcements.run()))  # what it tells names ports
        if listening.metrics_port is not None:
            await listen_metrics(hub, up, listening.metrics_port, health)
        up.callback(mqtt.close)
        up.callback(amqp.close)
        up.callback(running_jobs.cancel)  # before links close: that they do is no device's answer
        await describe(hub, published=published, identities=identities)
        bus.subscribe("policy.changed", lambda _name: leave_admin(hub))
        yield hub


async def _file_upload(
    settings: Settings,
    registry: Registry,
    bus: Bus,
    clock: Clock,
    limits: Limits,
    address: Callable[[], str],
    up: contextlib.AsyncExitStack,
) -> FileUpload | None:
    """What devices upload files with; None where the settings switch it off. address: the hub's own name and port."""
    wanted = settings.files
    if wanted.store == "off":
        return None
    try:
        blobs = open_blobs(wanted, settings.data, limits)
    except StoreUnavailable as error:
        raise StartFailure(error.reason, error.remedy) from None
    up.push_async_callback(blobs.close)
    notifications = FileNotifications(
        registry.queues,
        bus,
        clock,
        limits,
        container_url=lambda: wanted.public_url.rstrip("/") or f"https://{address()}/{wanted.container}",
        hub_name=settings.host_name,
    )
    announce = notifications.announce if wanted.notifications else None
    files = Files(registry.uploads, blobs, registry.identities, announce, clock, limits)
    uploads = Uploads(registry.uploads, blobs, limits)
    return FileUpload(files, uploads, await registry.uploads.signing_key(), wanted.container)


@contextlib.asynccontextmanager
async def _job_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that hands on a single failure as itself: why a hub cannot start is told to people."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) > 1:
            raise
        raise failures.exceptions[0] from None


async def _scrub(event_log: SqliteEventLog) -> None:
    checked = await event_log.scrub()
    log.debug("%d batches of the event log were checked", checked)


def _cancel_all(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
