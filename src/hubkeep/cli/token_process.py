"""Runs the token service until it is told to stop, and prints what to do next."""

import asyncio
import signal
import ssl
from pathlib import Path
from typing import Any

from hubkeep.server import RunningTokenService, raise_descriptor_limit, running_token_service
from hubkeep.server.token_service import TABLE_NAME
from hubkeep.settings import SettingsError
from hubkeep.token_service.settings import TokenServiceSettings, load

from . import logs, systemd
from .failure import MISUSED, CommandFailure
from .hub_process import failures_told, run_loop, stopping
from .output import err, print_json, print_plain


def serve(config: Path | None, options: dict[str, Any], *, as_json: bool) -> None:
    """Until SIGTERM or SIGINT. Raises CommandFailure."""
    try:
        settings = load(config, **options)
    except SettingsError as error:
        raise CommandFailure(str(error), "hubkeep help token-service shows a whole example", MISUSED) from None
    logs.configure(settings)
    raise_descriptor_limit()
    run_loop(_serve(settings, as_json=as_json))


async def _serve(settings: TokenServiceSettings, *, as_json: bool) -> None:
    stop = stopping()
    with failures_told():
        async with running_token_service(settings) as running:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, running)
            _announce(running, as_json=as_json)
            systemd.tell(systemd.READY)
            await stop.wait()
            systemd.tell(systemd.STOPPING)


def _reload(running: RunningTokenService) -> None:
    """SIGHUP: certificates for new handshakes."""
    try:
        running.reload()
    except (ssl.SSLError, OSError) as error:
        err.print(f"not reloaded: {error}", markup=False)


def _announce(running: RunningTokenService, *, as_json: bool) -> None:
    """What to do next, and the line that says that it is ready."""
    settings, trust = running.settings, running.trust_bundle
    if as_json:
        told = {"ready": True, "url": running.url, "plugin": settings.plugin, "hub": running.hub_name}
        print_json(
            {**told, "data": str(settings.data.resolve()), "trust_bundle": str(trust.resolve()) if trust else None}
        )
        return
    print_plain(f'Hubkeep token service for the hub "{running.hub_name}": devices are proved by {settings.plugin}')
    if trust is not None:
        print_plain(f"Trust    {trust}        devices trust this service by it")
    if settings.plugin == "table":
        where = settings.table.file or settings.data / TABLE_NAME
        print_plain(f"Devices  hubkeep token-table add press-07 --table {where}")
    shows = {"jwt": "Bearer JWT", "table": "Basic BASE64"}.get(settings.plugin, "...")
    ca = f"--cacert {trust} " if trust else ""
    print_plain(f"Try      curl {ca}-X POST -H 'Authorization: {shows}' {running.url}")
    print_plain(f"Refused  hubkeep token-refusals --data {settings.data}")
    print_plain(f"ready    {running.url}")
