"""The composition root: the only file that names concrete adapters. Reading ``running`` shows the system."""

import asyncio
import contextlib
import functools
import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from hubkeep import __version__
from hubkeep.background import ActivityJob, DiskJob, RetentionJob, every
from hubkeep.bus.in_process import InProcessBus
from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.policies import Policies, published_key
from hubkeep.cloud.secrets import KeyFileError, open_seal, write_secret
from hubkeep.connection import transports
from hubkeep.connection.admission import Admission
from hubkeep.connection.amqp.link import AmqpLink
from hubkeep.connection.amqp.listener import AmqpListener
from hubkeep.connection.amqp.readers import Readers
from hubkeep.connection.authentication import Authentication
from hubkeep.connection.clock import SystemClock
from hubkeep.connection.deliveries import Deliveries
from hubkeep.connection.device_twins import DeviceTwins
from hubkeep.connection.event_encoding import AmqpEventEncoding, described
from hubkeep.connection.https.connection import HttpsConnection
from hubkeep.connection.https.files import FileUpload
from hubkeep.connection.https.health import HealthPages
from hubkeep.connection.https.listener import HttpsListener
from hubkeep.connection.mqtt.link import MqttLink
from hubkeep.connection.mqtt.listener import MqttListener
from hubkeep.connection.server_certificates import ensure_server_certificates
from hubkeep.connection.sessions import Sessions
from hubkeep.connection.tls import ListenerContext
from hubkeep.device.authorities import Authorities
from hubkeep.device.bulk import BulkIdentities
from hubkeep.device.identities import Identities
from hubkeep.device.keys import key_to_text
from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound, StoreUnavailable
from hubkeep.limits import OPEN_CONNECTIONS_SHARE, Limits
from hubkeep.messaging.cloud_to_device import CloudToDevice
from hubkeep.messaging.configuration_runner import ConfigurationRunner
from hubkeep.messaging.configurations import Configurations
from hubkeep.messaging.consumer_groups import ConsumerGroups
from hubkeep.messaging.device_to_cloud import DeviceToCloud
from hubkeep.messaging.feedback import FeedbackBatches
from hubkeep.messaging.file_notifications import FileNotifications
from hubkeep.messaging.files import Files
from hubkeep.messaging.fleet_queries import FleetQueries
from hubkeep.messaging.job_runner import JobRunner
from hubkeep.messaging.jobs import Jobs
from hubkeep.messaging.methods import Methods
from hubkeep.messaging.twins import Twins
from hubkeep.messaging.uploads import Uploads
from hubkeep.metrics import HubMetrics, Sample, registry_of
from hubkeep.model import Identity, Refusal
from hubkeep.ports import Bus, Clock
from hubkeep.settings import Settings, SettingsError
from hubkeep.store.blobs import open_blobs
from hubkeep.store.event_log import SqliteEventLog
from hubkeep.store.registry import Registry, locked, open_registry
from hubkeep.store.start_failures import DataDirectoryInUse, NotPermitted, SchemaTooNew

log = logging.getLogger(__name__)

FIRST_DEVICE: Final = "first-device"
_DESCRIPTION: Final = "hubkeep.json"
_FAREWELL: Final = 0.5  # seconds for peers to close their side when the hub stops
_GOES_ON_WITHOUT: Final = "dev"  # the mode that goes on without a port that may not be bound


class StartFailure(Exception):
    """The hub cannot start here. cause: what is in the way. cure: the ways out."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause}: {cure}" if cure else cause)
        self.cause, self.cure = cause, cure


class CannotListen(StartFailure):
    """A port that cannot be bound."""


class NotServable(StartFailure):
    """The data directory may not be used here and now: permissions, another process, a newer schema (L-S7)."""


class WrongDirectory(StartFailure):
    """The data directory belongs to another mode, or its keys are public and the address is not loopback."""


class Hub:
    """A running hub: where it listens, and what the command line prints of it."""

    def __init__(
        self,
        settings: Settings,
        policies: Policies,
        tls: ListenerContext,
        identities: Identities,
        refusals: Refusals,
        readers: Readers,
        trust_bundle: Path,
    ) -> None:
        self.settings, self._policies, self._tls = settings, policies, tls
        self._identities, self._refusals, self._readers = identities, refusals, readers
        self.trust_bundle = trust_bundle.resolve()
        self.first_device_key = ""  # of a dev hub: the key of FIRST_DEVICE, base64
        self.ports: dict[str, int] = {}
        self.missing: dict[str, str] = {}  # listener to why it is not there
        self.file_upload: FileUpload | None = None

    @property
    def data(self) -> Path:
        return self.settings.data

    def reload(self, settings: Settings | None) -> Settings | None:
        """Serve renewed certificates to new handshakes. Returns ``settings``: what a running hub can take of them.

        Raises ssl.SSLError, OSError; then the old certificates are served on.
        """
        self._tls.reload()
        return settings

    def endpoint(self, kind: str) -> str:
        """``https://name:port`` and the like; empty when that listener is not there."""
        schemes = {"https": "https", "mqtt": "mqtts", "amqp": "amqps", "plain_amqp": "amqp", "metrics": "http"}
        port = self.ports.get(kind)
        host = "127.0.0.1" if kind == "metrics" else self.settings.host_name
        return "" if port is None else f"{schemes[kind]}://{host}:{port}"

    def address(self) -> str:
        """The hub's own name, with the HTTPS port where it is not 443."""
        return self.endpoint("https").removeprefix("https://").removesuffix(":443")

    def policy_connection_string(self, name: str = "iothubowner") -> str:
        """Raises KeyError for an unknown policy."""
        policy = self._policies.get(name)
        if policy is None:
            raise KeyError(name)
        key = key_to_text(policy.primary_key)
        return f"HostName={self.settings.host_name};SharedAccessKeyName={name};SharedAccessKey={key}"

    @property
    def event_readers(self) -> int:
        """Receivers attached to the Event Hubs-compatible endpoint."""
        return len(self._readers)

    async def ensure_device(self, device_id: str) -> str:
        """Register a device where it is not registered yet; its connection string. Raises HubError."""
        try:
            identity = await self._identities.get(device_id)
        except DeviceNotFound:
            identity = await self._identities.create(Identity(device_id=device_id))
        key = key_to_text(identity.primary_key)
        return f"HostName={self.settings.host_name};DeviceId={device_id};SharedAccessKey={key}"

    async def refusals(self, key: str = "", most: int = 20) -> Sequence[Refusal]:
        """The newest refusals, by tracking id or identity as claimed; an empty key means all."""
        return await self._refusals.find(key, most)

    def events_connection_string(self, name: str = "service") -> str:
        policy = self._policies.get(name)
        assert policy is not None
        key = key_to_text(policy.primary_key)
        return (
            f"Endpoint=sb://{self.settings.host_name}/;SharedAccessKeyName={name};SharedAccessKey={key};"
            f"EntityPath={self.settings.events.name}"
        )


@contextlib.asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Hub]:
    """A hub that accepts devices. Built bottom-up; taken down in reverse, whatever fails.

    Raises StartFailure, SettingsError, HubError for a store that cannot be opened.
    """
    async with contextlib.AsyncExitStack() as up:
        clock = clock or SystemClock()
        limits = settings.limits.resolve()
        directory = settings.data
        description = _prepare(directory, settings)
        with _start_failures():
            up.enter_context(locked(directory))
            seal = open_seal(directory / "keys" / "sealing.key", create=description is None)
            registry = await up.enter_async_context(
                open_registry(directory / "registry.db", seal, is_expected=description is not None)
            )
        published = settings.mode == "dev" and settings.on_loopback
        policies = Policies(registry.policies)
        await policies.load(published=published)
        event_log = SqliteEventLog(
            directory / "events.db",
            partitions=settings.events.partitions,
            clock=clock,
            cache_bytes=limits.event_cache,
            uncommitted_limit=limits.uncommitted_bytes,
        )
        with _start_failures():
            await event_log.open(is_expected=description is not None)
        up.push_async_callback(event_log.close)

        refusals = Refusals(registry.refusals, clock, limits.refusals_kept)
        bus = InProcessBus()
        identities = Identities(registry.identities, bus, clock, limits)
        await registry.identities.disconnect_all(clock.now())
        consumer_groups = ConsumerGroups(registry.consumer_groups, bus, clock, limits, settings.events.consumer_groups)
        await consumer_groups.load()
        authorities = Authorities(registry.authorities, bus, clock)
        await authorities.load()
        encoding = AmqpEventEncoding()
        to_cloud = DeviceToCloud(event_log, encoding, clock, limits)
        to_device = CloudToDevice(registry.queues, bus, clock, limits)
        feedback = FeedbackBatches(registry.queues, bus, clock, limits, settings.host_name)
        deliveries = Deliveries(to_device, bus)
        twins = Twins(registry.twins, bus, clock, limits)
        methods = Methods(registry.identities, bus, clock, limits)
        queries = FleetQueries(registry.fleet, registry.jobs, registry.configurations, to_device.counts, clock)
        jobs = Jobs(registry.jobs, queries, methods, clock, limits)
        runner = JobRunner(registry.jobs, jobs, queries, methods, twins, clock, limits)
        configurations = Configurations(registry.configurations, queries, clock, limits)
        configurer = ConfigurationRunner(registry.configurations, configurations, queries, twins, bus, clock, limits)
        sessions = Sessions(bus, clock, limits)
        names = _host_names(settings)
        authentication = Authentication(
            registry.identities,
            policies.get,
            authorities.active,
            host_names=names,
            events_name=settings.events.name,
            clock=clock,
            limits=limits,
            refuse=refusals.record,
        )
        admission = Admission(limits, _most_connections(), authentication.failed.blocked)
        certificates = ensure_server_certificates(directory, names, write_secret)
        tls = ListenerContext(certificates.chains, settings.tls)
        transports.keep_quiet_about_handshakes(asyncio.get_running_loop())

        device_twins = DeviceTwins(twins, authentication, refusals.record, clock)
        mqtt = MqttListener(
            authentication=authentication,
            to_cloud=to_cloud,
            log=event_log,
            encoding=encoding,
            deliveries=deliveries,
            subscriptions=registry.subscriptions,
            twins=device_twins,
            bus=bus,
            sessions=sessions,
            admission=admission,
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
            bus=bus,
            sessions=sessions,
            admission=admission,
            refuse=refusals.record,
            clock=clock,
            limits=limits,
            host_name=settings.host_name,
            events_name=settings.events.name,
            consumer_groups=consumer_groups,
            created=event_log.created,
        )
        hub = Hub(settings, policies, tls, identities, refusals, amqp.readers, certificates.trust_bundle)
        file_upload = await _file_upload(settings, registry, bus, clock, limits, hub.address, up)
        hub.file_upload = file_upload
        activity = ActivityJob(sessions.take_activity, registry.identities, refusals)
        https = HttpsListener(
            authentication=authentication,
            identities=identities,
            bulk=BulkIdentities(identities, registry.identities, bus, limits),
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
            policies=policies,
            consumer_groups=consumer_groups,
            authorities=authorities,
            log=event_log,
            decode_event=described,
            mqtt=mqtt.protocol,
            amqp=amqp.protocol,
            trust_bundle=certificates.trust_bundle,
            status=lambda: _status(hub, event_log, registry, sessions),
            settle=activity.run,
            file_upload=file_upload,
            host_names=names,
            address=hub.address,
            clock=clock,
            limits=limits,
        )
        up.push_async_callback(_see_off, lambda: (*mqtt.links, *amqp.links, *https.connections))
        await up.enter_async_context(https.serving())
        metrics = HubMetrics(lambda: _samples(event_log, admission, sessions, refusals, mqtt, amqp, https))
        pages = HealthPages(registry_of(metrics), lambda: _unhealthy(event_log, registry))
        health = await up.enter_async_context(pages.serving())

        background = await up.enter_async_context(_job_group())
        up.callback(_cancel_all, tasks := [])
        disk = DiskJob(directory, event_log, limits)
        await disk.run()
        retention = RetentionJob(
            event_log,
            clock,
            hours=settings.events.retention_hours,
            at_most=settings.events.retention_bytes,
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
            (1.0, to_device.tend, "cloud-to-device"),
            (1.0, feedback.tend, "feedback"),
            (60.0, retention.run, "retention"),
        ):
            tasks.append(background.create_task(every(seconds, job, name)))
        if file_upload is not None:
            tasks.append(background.create_task(every(60.0, file_upload.files.sweep, "uploads")))
        tasks.append(background.create_task(_scrub(event_log)))
        tasks.append(background.create_task(configurer.run()))
        tasks.append(running_jobs := background.create_task(runner.run()))
        up.push_async_callback(activity.run)

        listening = settings.listeners
        wanted: list[tuple[str, int | None, Callable[[], asyncio.BaseProtocol], Any]] = [
            ("https", listening.https_port, https.protocol, tls.context),
            ("mqtt", listening.mqtt_port, mqtt.protocol, tls.context),
            ("amqp", listening.amqp_port, amqp.protocol, tls.context),
            ("plain_amqp", listening.plain_amqp_port, amqp.protocol, None),
        ]
        for kind, port, factory, context in wanted:
            if port is not None:
                await _listen(hub, up, kind, port, factory, context, limits.handshake_within)
        if listening.metrics_port is not None:
            await _listen_metrics(hub, up, listening.metrics_port, health)
        up.callback(mqtt.close)
        up.callback(amqp.close)
        up.callback(running_jobs.cancel)  # before links close: that they do is no device's answer
        await _describe(hub, published=published, identities=identities)
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


@contextlib.contextmanager
def _start_failures() -> Iterator[None]:
    try:
        yield
    except DataDirectoryInUse as error:
        raise NotServable(str(error), "stop that hub, or name another directory with --data") from None
    except SchemaTooNew as error:
        raise NotServable(str(error), "start it with the newer version") from None
    except (KeyFileError, NotPermitted) as error:
        raise NotServable(str(error)) from None
    except PermissionError as error:
        raise NotServable(f"{error.filename}: {error.strerror}", "check its owner and mode") from None


async def _see_off(connections: Callable[[], Sequence[MqttLink | AmqpLink | HttpsConnection]]) -> None:
    """They were closed: peers that do not end TLS in time, as idle HTTP clients, are cut off."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _FAREWELL
    while connections() and loop.time() < deadline:  # noqa: ASYNC110  # once in a hub's life; no event per connection
        await asyncio.sleep(0.01)
    for connection in connections():
        connection.abort()
    await asyncio.sleep(0)  # transports close their sockets in the loop's next turn


async def _scrub(event_log: SqliteEventLog) -> None:
    checked = await event_log.scrub()
    log.debug("%d batches of the event log were checked", checked)


def _cancel_all(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()


# -- the data directory -----------------------------------------------------------------------------------------------


def _prepare(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """Make the directory, or read what made it. None: it is new. Raises WrongDirectory, SettingsError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data: {directory} cannot be made: {error.strerror}") from None
    path = directory / _DESCRIPTION
    if not path.exists():
        return None
    description: dict[str, Any] = json.loads(path.read_text())
    if description["mode"] != settings.mode:
        raise WrongDirectory(
            f"{directory} was made by 'hubkeep {description['mode']}' and is not for 'hubkeep {settings.mode}': "
            "its keys are of another kind",
            "name another directory with --data",
        )
    if description.get("published") and not settings.on_loopback:
        raise WrongDirectory(
            f"the keys in {directory} are published ones, and {settings.listeners.address} is no loopback address",
            "name another directory with --data: its keys will be random",
        )
    return description


async def _describe(hub: Hub, *, published: bool, identities: Identities) -> None:
    """Leave behind what the command line needs: mode, and the operator's connection string and address (0600)."""
    settings, directory = hub.settings, hub.data
    path = directory / _DESCRIPTION
    if not path.exists():
        if settings.mode == "dev":
            await _make_first_device(identities, published=published)
        description = {"mode": settings.mode, "version": __version__, "published": published}
        write_secret(path, msgspec.json.encode(description))  # whole or not at all: without it the directory is new
    if settings.mode == "dev":
        with contextlib.suppress(DeviceNotFound):
            hub.first_device_key = key_to_text((await identities.get(FIRST_DEVICE)).primary_key) or ""
    admin = {
        "connection_string": hub.policy_connection_string(),
        "events_connection_string": hub.events_connection_string(),
        "address": settings.listeners.address,
        "ports": hub.ports,
        "trust_bundle": str(hub.trust_bundle),
    }
    write_secret(directory / "admin", msgspec.json.encode(admin))


async def _make_first_device(identities: Identities, *, published: bool) -> None:
    def key(which: str) -> bytes | None:
        return published_key(f"device/{FIRST_DEVICE}/{which}") if published else None

    first = Identity(device_id=FIRST_DEVICE, primary_key=key("primary"), secondary_key=key("secondary"))
    with contextlib.suppress(DeviceAlreadyExists):  # a start that was cut short
        await identities.create(first)


def _host_names(settings: Settings) -> list[str]:
    names = [*settings.host_names, "localhost", "127.0.0.1"]
    if settings.listeners.address not in {"0.0.0.0", "::"}:  # noqa: S104  # no name that anybody dials
        names.append(settings.listeners.address)
    return list(dict.fromkeys(name.lower() for name in names))


# -- listeners --------------------------------------------------------------------------------------------------------


async def _listen(
    hub: Hub,
    up: contextlib.AsyncExitStack,
    kind: str,
    port: int,
    factory: Callable[[], asyncio.BaseProtocol],
    context: Any,
    handshake_within: float,
) -> None:
    settings = hub.settings.listeners
    listen = functools.partial(
        transports.listen, factory, context=context, backlog=settings.backlog, handshake_within=handshake_within
    )
    try:
        server = await listen(settings.address, port)
    except OSError as error:
        failure = _why_not(kind, settings.address, port, error)
        if hub.settings.mode != _GOES_ON_WITHOUT:
            raise failure from None
        hub.missing[kind] = f"{failure.cause}: {failure.cure}"
        if kind != "https":
            return
        # the commands need it; programs with the port built in go without
        try:
            server = await listen(settings.address, 0)
        except OSError:
            raise failure from None
    hub.ports[kind] = server.sockets[0].getsockname()[1]
    up.callback(server.close)


async def _listen_metrics(hub: Hub, up: contextlib.AsyncExitStack, port: int, factory: Any) -> None:
    """Metrics are no reason to stop: a second hub on the machine takes any free port instead."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(factory, "127.0.0.1", port)
    except OSError:
        server = await loop.create_server(factory, "127.0.0.1", 0)
    hub.ports["metrics"] = server.sockets[0].getsockname()[1]
    up.callback(server.close)


def _why_not(kind: str, address: str, port: int, error: OSError) -> CannotListen:
    names = {"https": "HTTPS and WebSockets", "mqtt": "MQTT", "amqp": "AMQP", "plain_amqp": "AMQP without TLS"}
    option = f"--{kind.replace('_', '-')}-port"
    if isinstance(error, PermissionError):
        cure = (
            f"use another port ({option} 0 takes any free one), or let this Python bind it: "
            "sudo sysctl net.ipv4.ip_unprivileged_port_start=443"
        )
        return CannotListen(f"{names[kind]}: port {port} may only be bound by root", cure)
    cure = f"use another port ({option} 0), or another address (--listen 127.0.0.2 --host-name 127.0.0.2)"
    if isinstance(error, socket.gaierror) or not error.errno:
        return CannotListen(f"{names[kind]}: {address} is no address of this machine", "name one with --listen")
    return CannotListen(f"{names[kind]}: port {port}: {os.strerror(error.errno)}", cure)


def raise_descriptor_limit() -> None:
    """The soft limit goes to the hard one: every connection is a descriptor (architecture, section 8)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _most_connections() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft * OPEN_CONNECTIONS_SHARE.value // 100


# -- health -----------------------------------------------------------------------------------------------------------


def _unhealthy(event_log: SqliteEventLog, registry: Registry) -> list[str]:
    """Why the hub is not healthy; empty when it is."""
    reasons = [damage.reason for damage in event_log.damaged.values()]
    if event_log.refuse_writes is not None:
        reasons.append(event_log.refuse_writes.reason)
    if registry.failing:
        reasons.append("the registry cannot be written: its last two writes failed")
    return reasons


def _samples(
    event_log: SqliteEventLog,
    admission: Admission,
    sessions: Sessions,
    refusals: Refusals,
    mqtt: MqttListener,
    amqp: AmqpListener,
    https: HttpsListener,
) -> Iterator[Sample]:
    """What the parts count, under the names of metrics.FAMILIES."""
    for surface, accepted, links in (
        ("mqtt", mqtt.accepted, len(mqtt.links)),
        ("amqp", amqp.accepted, len(amqp.links)),
        ("https", https.accepted, len(https.connections)),
    ):
        yield Sample("hubkeep_messages", accepted, surface)
        yield Sample("hubkeep_links", links, surface)
    yield Sample("hubkeep_cloud_to_device_messages", mqtt.deliveries.to_device.sent)
    yield Sample("hubkeep_stray_acknowledgements", mqtt.stray_acknowledgements)
    for code, count in refusals.counts.items():
        yield Sample("hubkeep_refusals", count, str(code))
    yield Sample("hubkeep_refusals_dropped", refusals.dropped)
    yield Sample("hubkeep_connections", admission.open)
    yield Sample("hubkeep_connections_unauthenticated", admission.unauthenticated)
    yield Sample("hubkeep_connections_refused", admission.refused)
    yield Sample("hubkeep_identities_connected", sessions.connected)
    yield Sample("hubkeep_https_requests", https.requests)
    yield Sample("hubkeep_event_log_commits", event_log.commits)
    yield Sample("hubkeep_event_log_commit_seconds", event_log.commit_seconds)
    yield Sample("hubkeep_event_log_bytes", event_log.committed_bytes)
    yield Sample("hubkeep_event_log_pending_bytes", event_log.pending_bytes)
    yield Sample("hubkeep_event_log_damages", len(event_log.damaged))
    yield Sample("hubkeep_event_log_torn_bytes", event_log.torn_bytes)
    yield Sample("hubkeep_event_log_writable", event_log.refuse_writes is None)
    for partition in range(event_log.partitions):
        state = event_log.state(partition)
        yield Sample("hubkeep_partition_first_sequence", state.first_sequence, str(partition))
        yield Sample("hubkeep_partition_last_sequence", state.last_sequence, str(partition))


def _status(hub: Hub, event_log: SqliteEventLog, registry: Registry, sessions: Sessions) -> dict[str, Any]:
    return {
        "version": __version__,
        "mode": hub.settings.mode,
        "host_names": list(hub.settings.host_names),
        "endpoints": {kind: hub.endpoint(kind) for kind in hub.ports},
        "missing": hub.missing,
        "events_name": hub.settings.events.name,
        "retention_hours": hub.settings.events.retention_hours,
        "retention_bytes": hub.settings.events.retention_bytes,
        "connected": sessions.connected,
        "partitions": [event_log.state(each)._asdict() for each in range(event_log.partitions)],
        "unhealthy": _unhealthy(event_log, registry),
        "machine": socket.gethostname(),
    }
