"""A hub on a thread and a loopback address of its own: several run side by side, on the ports that SDKs know."""

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from hubkeep.server import Hub, running
from hubkeep.settings import Settings, load
from hubkeep.wire import sas

from .trust import trusted

_T = TypeVar("_T")
_START_WITHIN: Final = 30.0
_ASK_WITHIN: Final = 10.0
_addresses = itertools.count()


class MovableClock:
    """The machine's time plus what a test has moved it."""

    def __init__(self) -> None:
        self._moved = self._jumped = 0.0

    def now(self) -> float:
        return time.time() + self._moved + self._jumped

    def monotonic(self) -> float:
        return time.monotonic() + self._moved

    def move(self, seconds: float) -> None:
        """Time passes at once: tokens expire, keep-alives lapse."""
        self._moved += seconds

    def jump(self, seconds: float) -> None:
        """The wall clock alone is set, as by an operator or a time server; negative for back. No time passes."""
        self._jumped += seconds


class HubInThread:
    """Use as a context. Everything here may be called from any thread.

    connection_string: of the policy iothubowner. events_connection_string: of the Event Hubs-compatible endpoint.
    trust_bundle: path of the root certificates (PEM). data: kept when it was given, else removed at the end.
    """

    def __init__(self, data: Path | None = None, address: str = "", **settings: Any) -> None:
        """settings: as ``hubkeep.settings.load`` takes them. address: empty for a free one of 127.0.0.0/8."""
        self.clock = MovableClock()
        self._folder = None if data else tempfile.mkdtemp(prefix="hubkeep-")
        self.data = data or Path(self._folder or "")
        self.host_name = self.address = address or free_address()
        listeners = {"address": self.address, "metrics_port": 0, **settings.pop("listeners", {})}
        names = settings.pop("host_names", (self.host_name,))
        try:
            self.settings: Settings = load(
                None, **{"mode": "dev", "data": self.data, "host_names": names, "listeners": listeners, **settings}
            )
        except BaseException:
            self._remove_folder()
            raise
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hub: Hub | None = None
        self._stop: asyncio.Event | None = None
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name=f"hub-{self.address}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.result(_START_WITHIN)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it as SIGTERM would."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_START_WITHIN)
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def hub(self) -> Hub:
        assert self._hub is not None, "use it as a context"
        return self._hub

    @property
    def connection_string(self) -> str:
        return self.hub.policy_connection_string()

    @property
    def events_connection_string(self) -> str:
        return self.hub.events_connection_string()

    @property
    def id_scope(self) -> str:
        """Of the provisioning service."""
        return self.hub.id_scope

    @property
    def trust_bundle(self) -> Path:
        return self.hub.trust_bundle

    @property
    def missing(self) -> dict[str, str]:
        """Listeners that are not where SDKs look for them, and why."""
        return self.hub.missing

    def policy_connection_string(self, name: str) -> str:
        return self.hub.policy_connection_string(name)

    def create_device(self, device_id: str) -> str:
        """Register a device if there is none of this id; its connection string."""
        return self.ask(self.hub.ensure_device(device_id))

    def refusals(self, key: str = "", most: int = 20) -> list[Any]:
        """What was refused, the newest first."""
        return list(self.ask(self.hub.refusals(key, most)))

    def token(
        self, resource: str = "", *, key: bytes | None = None, policy: str = "iothubowner", seconds: int = 3600
    ) -> str:
        """A SAS token for a path of the hub (``devices/press-07``); signed by ``key``, else by ``policy``."""
        path = f"{self.host_name}/{resource}" if resource else self.host_name
        expiry = int(self.clock.now()) + seconds
        if key is not None:
            return sas.make(path, key, expiry)
        parsed = sas.parse_connection_string(self.policy_connection_string(policy))
        return sas.make(path, parsed.key, expiry, policy)

    def wait_for_events(self, count: int, within: float = 10.0, device: str | None = None) -> list[dict[str, Any]]:
        """The oldest ``count`` events, as ``hubkeep monitor --json`` shows them. Raises TimeoutError."""
        events: list[dict[str, Any]] = []
        with contextlib.closing(self._event_lines(device, within)) as lines:
            for line in lines:
                events.append(line)
                if len(events) >= count:
                    return events
        raise TimeoutError(f"{len(events)} of {count} events within {within} s")

    def trusted(self) -> contextlib.AbstractContextManager[None]:
        """A context in which clients of this process, and programs that it starts, trust the hub."""
        return trusted(self.trust_bundle)

    def ask(self, question: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the hub's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(question, self._loop).result(_ASK_WITHIN)

    def _event_lines(self, device: str | None, within: float) -> Generator[dict[str, Any], None, None]:
        port = self.hub.ports["https"]
        query = "from=earliest" + (f"&device={device}" if device else "")
        request = urllib.request.Request(  # its scheme stands here
            f"https://{self.address}:{port}/api/events?{query}",
            headers={"Authorization": self.token()},
        )
        context = ssl.create_default_context(cafile=str(self.trust_bundle))
        deadline = time.monotonic() + within
        with (
            contextlib.suppress(TimeoutError),
            urllib.request.urlopen(request, timeout=within, context=context) as answer,  # noqa: S310
        ):
            while time.monotonic() < deadline:
                line = answer.readline()
                if not line:
                    raise ConnectionError("the hub ended the stream of events")
                if line.strip():
                    yield json.loads(line)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with running(self.settings, self.clock) as self._hub:
                self._started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


def free_address(ports: Sequence[int] = (8883, 5671)) -> str:
    """A loopback address of which nobody holds these ports. Raises OSError when there is none."""
    start = os.getpid() * 37 + next(_addresses) * 7
    for step in range(2000):
        number = (start + step * 11) % (254 * 254)
        address = f"127.{1 + number // 254 % 254}.{1 + number % 254}.{2 + start % 250}"
        if all(_is_free(address, port) for port in ports):
            return address
    raise OSError("no loopback address has its ports free; on this system only 127.0.0.1 may be one")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
