"""Sign-in for people, put together."""

import contextlib
from typing import NamedTuple
from urllib.parse import urlsplit

from hubkeep.cloud.egress import EgressRules
from hubkeep.cloud.provider_keys import ProviderKeys
from hubkeep.cloud.roles import Roles
from hubkeep.connection.https.browser import Provider
from hubkeep.connection.people import People
from hubkeep.connection.web_tokens import Accepted, WebTokens
from hubkeep.endpoints.fetching import Fetching
from hubkeep.endpoints.http_client import HttpClient, resolve
from hubkeep.errors import HubError
from hubkeep.limits import Limits
from hubkeep.messaging.groups import DeviceGroups
from hubkeep.model import RoleAssignment
from hubkeep.ports import Bus, Clock
from hubkeep.settings import Settings, SettingsError
from hubkeep.store.registry import Registry


class SignIn(NamedTuple):
    """keys, provider: None where nobody signs in."""

    people: People
    keys: ProviderKeys | None
    provider: Provider | None


async def opened_sign_in(
    settings: Settings,
    registry: Registry,
    groups: DeviceGroups,
    bus: Bus,
    clock: Clock,
    limits: Limits,
    up: contextlib.AsyncExitStack,
) -> SignIn:
    """Nothing is fetched yet: a hub starts while its provider is away. Raises SettingsError."""
    wanted = settings.people
    fixed = [
        RoleAssignment(
            name=f"settings.{number}",
            role=each.role,
            claim=each.claim,
            value=each.value,
            devices=each.devices,
            is_fixed=True,
        )
        for number, each in enumerate(wanted.roles, 1)
    ]
    roles = Roles(registry.roles, fixed, groups, bus, clock)
    try:
        await roles.load()
    except HubError as error:
        raise SettingsError(f"people.roles: {error}") from None
    if not wanted.issuer:
        return SignIn(People(None, roles), None, None)
    http = await up.enter_async_context(HttpClient(_egress(settings), wanted.trust_file))
    fetch = Fetching(http)
    keys = ProviderKeys(wanted.issuer, fetch, clock)
    accepted = Accepted(
        wanted.issuer,
        frozenset(each.rstrip("/") for each in wanted.audiences),
        frozenset(wanted.clients),
        frozenset(wanted.algorithms),
        wanted.name_claim,
    )
    people = People(WebTokens(accepted, keys, clock, limits.token_grace), roles)
    return SignIn(people, keys, Provider(wanted, keys, fetch))


def _egress(settings: Settings) -> EgressRules:
    """The provider's hosts and no others, whatever else is open; what the settings deny stays denied."""
    hosts = [urlsplit(settings.people.issuer).hostname or "", *settings.people.key_hosts]
    try:
        return EgressRules(hosts, settings.egress.deny, resolve, only_allowed=True)
    except ValueError as error:
        raise SettingsError(f"people: {error}") from None
