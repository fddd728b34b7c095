"""The composition root of the token service, a process of its own beside the hub's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from hubkeep.background import every
from hubkeep.cloud.audit import Refusals
from hubkeep.cloud.egress import EgressRules
from hubkeep.cloud.secrets import write_secret
from hubkeep.connection import transports
from hubkeep.connection.admission import Admission, Arrivals, FailedLogins, FailedPairs
from hubkeep.connection.clock import SystemClock
from hubkeep.connection.doors import Door
from hubkeep.connection.server_certificates import ensure_server_certificates
from hubkeep.connection.tls import ListenerContexts
from hubkeep.connection.turns import Turns
from hubkeep.endpoints.fetching import Fetching
from hubkeep.endpoints.http_client import HttpClient, resolve
from hubkeep.limits import REFUSALS_KEPT, Limits
from hubkeep.model import Networks
from hubkeep.ports import Clock, Fetch
from hubkeep.settings import SettingsError, Tls
from hubkeep.store.registry import locked
from hubkeep.token_service.callback import Callback
from hubkeep.token_service.hub import HubApi
from hubkeep.token_service.plugins import DeviceAuthenticator, Surroundings, found
from hubkeep.token_service.refusal_file import RefusalFile
from hubkeep.token_service.service import TokenService
from hubkeep.token_service.settings import TokenServiceSettings
from hubkeep.token_service.table import Table
from hubkeep.token_service.throttle import Rate
from hubkeep.token_service.web_tokens import WebTokens

from .failures import CannotListen, start_failures
from .listening import most_connections, see_off

_BACKLOG: Final = 1024
_FLUSH_EVERY: Final = 1.0  # seconds
TABLE_NAME: Final = "table.jsonl"
REFUSALS_NAME: Final = "refusals.jsonl"


class RunningTokenService:
    """trust_bundle: what devices trust it by; None where the operator brought the certificate."""

    def __init__(
        self,
        settings: TokenServiceSettings,
        service: TokenService,
        tls: ListenerContexts,
        port: int,
        trust_bundle: Path | None,
        hub_name: str,
    ) -> None:
        self.settings, self.service, self._tls, self.port = settings, service, tls, port
        self.trust_bundle, self.hub_name = trust_bundle, hub_name

    @property
    def url(self) -> str:
        return f"https://{self.settings.host_names[0]}:{self.port}/token"

    def reload(self) -> None:
        """Serve renewed certificates to new handshakes. Raises ssl.SSLError, OSError."""
        self._tls.reload()


@contextlib.asynccontextmanager
async def running_token_service(
    settings: TokenServiceSettings, clock: Clock | None = None
) -> AsyncIterator[RunningTokenService]:
    """A token service that answers devices. Raises StartFailure, SettingsError, HubError."""
    clock, limits = clock or SystemClock(), Limits()
    async with contextlib.AsyncExitStack() as up:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with start_failures():
            up.enter_context(locked(settings.data))
        refusals = Refusals(RefusalFile(settings.data / REFUSALS_NAME), clock, REFUSALS_KEPT.value)
        up.push_async_callback(refusals.flush)
        chains, trust_bundle = _certificates(settings)
        try:
            tls = ListenerContexts(chains, Tls())
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(f"certificate, key: {error}") from None
        hub = HubApi(settings.hub, clock, settings.token_seconds, registers=settings.register_devices)
        await up.enter_async_context(hub)
        fetch = Fetching(await up.enter_async_context(HttpClient(_egress(settings))))
        failed = FailedLogins(limits, clock)
        admission = Admission(limits, most_connections(), failed.blocked, Arrivals(limits, clock))
        service = TokenService(
            plugin=_plugin(settings, fetch, clock),
            hub=hub,
            register_devices=settings.register_devices,
            token_seconds=settings.token_seconds,
            per_address=Rate(settings.per_address, clock),
            per_device=Rate(settings.per_device, clock),
            admission=admission,
            failed=failed,
            failed_pairs=FailedPairs(clock),
            refusals=refusals,
            clock=clock,
            limits=limits,
        )
        up.push_async_callback(see_off, lambda: tuple(service.connections))
        await up.enter_async_context(service.serving())
        transports.keep_quiet_about_handshakes(asyncio.get_running_loop())
        allowed = Networks(allow=settings.networks.allow, deny=settings.networks.deny)
        try:
            server = await transports.listen(
                service.protocol,
                settings.address,
                settings.port,
                context=tls.of("https"),
                door=Door(allowed, "https", refusals.record, clock),
                admission=admission,
                turns=Turns(),
                backlog=_BACKLOG,
                handshake_within=limits.handshake_within,
            )
        except OSError as error:
            raise CannotListen(
                f"port {settings.port} of {settings.address}: {error.strerror or error}", "use another: --port 0"
            ) from None
        up.callback(server.close)
        flushing = asyncio.create_task(every(_FLUSH_EVERY, refusals.flush, "refusals"))
        up.callback(flushing.cancel)
        port = server.sockets[0].getsockname()[1]
        yield RunningTokenService(settings, service, tls, port, trust_bundle, hub.host_name)


def _plugin(settings: TokenServiceSettings, fetch: Fetch, clock: Clock) -> DeviceAuthenticator:
    """Raises SettingsError."""
    if settings.plugin == "jwt":
        return WebTokens(settings.jwt, fetch, clock)
    if settings.plugin == "callback":
        path = settings.callback.secret_file
        try:
            return Callback(settings.callback, path.read_text().strip() if path else "", fetch)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"callback.secret_file: {error}") from None
    if settings.plugin == "table":
        return Table(settings.table.file or settings.data / TABLE_NAME)
    return found(settings.plugin)(Surroundings(settings.options, fetch, clock))


def _egress(settings: TokenServiceSettings) -> EgressRules:
    wanted = settings.egress
    try:
        return EgressRules(wanted.allow, wanted.deny, resolve, only_allowed=wanted.only_allowed)
    except ValueError as error:
        raise SettingsError(f"egress: {error}") from None


def _certificates(settings: TokenServiceSettings) -> tuple[Sequence[tuple[Path, Path]], Path | None]:
    """Chains with their keys, and the root of those that are made here."""
    if settings.certificate is not None and settings.key is not None:
        return [(settings.certificate, settings.key)], None
    made = ensure_server_certificates(settings.data, settings.host_names, write_secret)
    return made.chains, made.trust_bundle
