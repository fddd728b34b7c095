"""What makes a directory a hub's: its description, and what the command line finds of the running hub in it."""

import contextlib
import json
from pathlib import Path
from typing import Any, Final

import msgspec

from hubkeep import __version__
from hubkeep.cloud.policies import published_key
from hubkeep.cloud.secrets import write_secret
from hubkeep.device.identities import Identities
from hubkeep.device.keys import key_to_text
from hubkeep.errors import DeviceAlreadyExists, DeviceNotFound
from hubkeep.model import Identity
from hubkeep.settings import Settings, SettingsError

from .failures import WrongDirectory
from .hub import Hub

FIRST_DEVICE: Final = "first-device"
DESCRIPTION: Final = "hubkeep.json"


def prepare(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """Make the directory, or read what made it. None: it is new. Raises WrongDirectory, SettingsError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data: {directory} cannot be made: {error.strerror}") from None
    path = directory / DESCRIPTION
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


async def describe(hub: Hub, *, published: bool, identities: Identities) -> None:
    """Leave behind what the command line needs: the hub's mode, and how its operator reaches it."""
    settings, directory = hub.settings, hub.data
    path = directory / DESCRIPTION
    if not path.exists():
        if settings.mode == "dev":
            await _make_first_device(identities, published=published)
        description = {"mode": settings.mode, "version": __version__, "published": published}
        write_secret(path, msgspec.json.encode(description))  # whole or not at all: without it the directory is new
    if settings.mode == "dev":
        with contextlib.suppress(DeviceNotFound):
            hub.first_device_key = key_to_text((await identities.get(FIRST_DEVICE)).primary_key) or ""
    leave_admin(hub)


def leave_admin(hub: Hub) -> None:
    """The operator's connection strings as they are now, for the command line on this machine (0600)."""
    admin = {
        "connection_string": hub.policy_connection_string(),
        "events_connection_string": hub.events_connection_string(),
        "provisioning_connection_string": hub.policy_connection_string("provisioningserviceowner"),
        "address": hub.settings.listeners.address,
        "ports": hub.ports,
        "trust_bundle": str(hub.trust_bundle),
    }
    write_secret(hub.data / "admin", msgspec.json.encode(admin))


async def _make_first_device(identities: Identities, *, published: bool) -> None:
    def key(which: str) -> bytes | None:
        return published_key(f"device/{FIRST_DEVICE}/{which}") if published else None

    first = Identity(device_id=FIRST_DEVICE, primary_key=key("primary"), secondary_key=key("secondary"))
    with contextlib.suppress(DeviceAlreadyExists):  # a start that was cut short
        await identities.create(first)


def host_names(settings: Settings) -> list[str]:
    names = [*settings.host_names, "localhost", "127.0.0.1"]
    if settings.listeners.address not in {"0.0.0.0", "::"}:  # noqa: S104  # no name that anybody dials
        names.append(settings.listeners.address)
    return list(dict.fromkeys(name.lower() for name in names))
