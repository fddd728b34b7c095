"""What proves a device: a plug-in, built in or found by its Python entry point.

Those of others are factories in the entry-point group ``hubkeep.token_service``, by the name that the setting
``plugin`` gives: a callable that takes ``Surroundings`` and returns a ``DeviceAuthenticator``.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple, Protocol

from hubkeep.ports import Clock, Fetch
from hubkeep.settings import SettingsError

GROUP: Final = "hubkeep.token_service"


class Presented(NamedTuple):
    """What a device shows. scheme: of its Authorization header, in lower case (``bearer``, ``basic``); credential: the
    rest of it. device_id, module_id: what it says it is; empty where it says nothing. address: whence it comes."""

    scheme: str
    credential: str
    device_id: str
    module_id: str
    address: str

    def __repr__(self) -> str:
        return f"Presented({self.scheme!r}, {self.device_id!r}, {self.module_id!r}, {self.address!r})"


class Proved(NamedTuple):
    """Who it is at the hub, whatever it said."""

    device_id: str
    module_id: str = ""


class DeviceAuthenticator(Protocol):
    """A plug-in. It is called for many devices at once, and must not hold up the event loop."""

    async def prove(self, presented: Presented) -> Proved:
        """Who it is. Raises Unauthorized(reason=, remedy=) where it proves nothing: both are recorded, neither is told.
        Raises ServerBusy(reason=, remedy=) where that cannot be told now: the device asks again."""


class Surroundings(NamedTuple):
    """What a plug-in gets. options: the section of the settings that has its name, else ``[options]``.

    fetch: HTTP to others, where the egress rules let it. clock: time.
    """

    options: Mapping[str, Any]
    fetch: Fetch
    clock: Clock


Factory = Callable[[Surroundings], DeviceAuthenticator]


def found(name: str) -> Factory:
    """The factory of another package's plug-in. Raises SettingsError."""
    those = {each.name: each for each in entry_points(group=GROUP)}
    if name not in those:
        others = f"; installed: {', '.join(sorted(those))}" if those else ""
        raise SettingsError(f"plugin: {name!r} is none of jwt, callback and table, nor installed{others}")
    try:
        factory: Factory = those[name].load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"plugin: {name!r} cannot be loaded: {error}") from None
    return factory
