"""Tells every device of the newest trust bundle, in the desired properties of its twin (provisioning-and-pki 4.5).

``properties.desired.hubkeep.trust`` has its version, address and hash: a device with any SDK hears of it as of any
other desired property, fetches it, and reports at the same place what it holds.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from hubkeep.errors import HubError, StoreUnavailable
from hubkeep.model import IdentitiesCreated, Json
from hubkeep.ports import Bus

from .configuration_content import without_settings
from .fleet_queries import FleetQueries
from .twin_sections import merged
from .twins import Twins

log = logging.getLogger(__name__)

_GROUP: Final = "hubkeep"
_PLACE: Final = {f"properties.desired.{_GROUP}.trust": None}
_EVERYBODY: Final = "SELECT deviceId, properties.desired.hubkeep FROM devices"
_REST: Final = 9  # times as long as some devices took
_AGAIN: Final = 10.0  # seconds after which those are tried again that could not be told


class TrustAnnouncements:
    """``run`` is one background task of the hub."""

    def __init__(self, queries: FleetQueries, twins: Twins, bus: Bus) -> None:
        self._queries, self._twins = queries, twins
        self._section: Callable[[], Json | None] = lambda: None
        self._changed, self._created = asyncio.Event(), list[str]()
        self._is_for_all = False
        bus.subscribe("identity.created", self._identities_created)

    def announce(self, section: Callable[[], Json | None]) -> None:
        """To all, from now on. section: what they are told, asked when it is; None: nothing."""
        self._section, self._is_for_all = section, True
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled; what fails is tried again (L-R1)."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            is_for_all, self._is_for_all = self._is_for_all, False
            created, self._created = self._created, []
            try:
                await (self._tell_all() if is_for_all else self._tell(created))
            except StoreUnavailable as error:
                log.warning("devices are not told of the trust bundle for now: %s", error.reason)
                self._is_for_all = True
                await asyncio.sleep(_AGAIN)
                self._changed.set()

    def _identities_created(self, created: object) -> None:
        assert isinstance(created, IdentitiesCreated)
        if self._section() is not None:
            self._created += [device_id for device_id, module_id in created.names if not module_id]
            self._changed.set()

    async def _tell_all(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async for documents in self._queries.documents(self._queries.parse(_EVERYBODY)):
            section = self._section()
            due = [key[0] for key, document in documents if _held(document) != section]
            await self._tell(due)
            await asyncio.sleep((loop.time() - began) * _REST)
            began = loop.time()

    async def _tell(self, device_ids: list[str]) -> None:
        """Raises StoreUnavailable."""
        section = self._section()

        def rewrite(properties: Json) -> Json:
            without = without_settings(properties, _PLACE)
            if section is None or not isinstance(without.get(_GROUP, {}), dict):
                return without  # an operator's own property of that name stays
            return merged(without, {_GROUP: {"trust": section}})

        async def tell(device_id: str) -> None:
            try:
                await self._twins.rewrite_desired(device_id, "", rewrite)
            except StoreUnavailable:
                raise
            except HubError as error:
                log.warning("%s is not told of the trust bundle: %s", device_id, error.reason)

        await asyncio.gather(*map(tell, device_ids))


def _held(document: Json) -> Any:
    group = document.get("properties", {}).get("desired", {}).get(_GROUP)
    return group.get("trust") if isinstance(group, dict) else None
