"""Operators' view of the shared access policies. Whoever may ask holds all rights already, and sees their keys.

Members are named as resource descriptions name them: rights, primaryKey, secondaryKey. Source: service-protocols 1.4.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web

from hubkeep.cloud.policies import Policies, checked_networks, permission_words
from hubkeep.device.keys import key_from_text
from hubkeep.errors import BadRequest
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import Networks, Policy, why_shut_out

from ..audited import difference, secret
from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange


class NetworksBody(msgspec.Struct):
    """Networks (CIDR) and addresses. Denying wins; once something is allowed, the rest is closed; neither: from all."""

    allow: list[str] = []
    deny: list[str] = []


class PolicyBody(msgspec.Struct, rename="camel"):
    """rights: joined by a comma. Keys: base64; those that are left out stay, or are made. networks: where its tokens
    may be used from; left out, they stay. shutMeOut: also if that shuts out whoever asks."""

    rights: str
    primary_key: str | None = None
    secondary_key: str | None = None
    networks: NetworksBody | None = None
    shut_me_out: bool = False


class RegenerateBody(msgspec.Struct, rename="camel"):
    policy_key_type: Literal["primary", "secondary"]


class PolicySurface:
    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("admin/policies", self.list, "service", dated=False),
            Endpoint("admin/policies/get", self.get, "service", dated=False),
            Endpoint("admin/policies/put", self.put, "service", dated=False),
            Endpoint("admin/policies/delete", self.delete, "service", dated=False),
            Endpoint("admin/policies/regenerate", self.regenerate, "service", dated=False),
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/policies"""
        return json_answer([_json(each) for each in self._policies.all()])

    async def get(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/policies/{name}"""
        return json_answer(_json(self._policies.named(exchange.values["name"])))

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/policies/{name}: creates, or changes; live links of other rights, keys or networks are cut."""
        wanted = json_as(PolicyBody, await exchange.body(HTTP_SERVICE_BODY.value))
        primary = key_from_text(wanted.primary_key, "primaryKey") if wanted.primary_key else None
        secondary = key_from_text(wanted.secondary_key, "secondaryKey") if wanted.secondary_key else None
        name = exchange.values["name"]
        networks = None
        if wanted.networks is not None:
            networks = checked_networks(wanted.networks.allow, wanted.networks.deny)
            if not wanted.shut_me_out:
                _check_asker(exchange, name, networks)
        before = self._policies.get(name)
        policy = await self._policies.define(name, wanted.rights, primary, secondary, networks)
        exchange.detail = difference(_audited(before) if before is not None else None, _audited(policy))
        return json_answer(_json(policy))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/policies/{name}"""
        await self._policies.delete(exchange.values["name"])
        return no_content()

    async def regenerate(self, exchange: Exchange) -> web.StreamResponse:
        """POST /api/policies/{name}/regenerate: a new key in place of one of the two."""
        wanted = json_as(RegenerateBody, await exchange.body(HTTP_SERVICE_BODY.value))
        exchange.detail = wanted.policy_key_type
        return json_answer(_json(await self._policies.regenerate(exchange.values["name"], wanted.policy_key_type)))


def _audited(policy: Policy) -> dict[str, object]:
    return {
        "rights": permission_words(policy.permissions),
        "primary key": secret(policy.primary_key),
        "secondary key": secret(policy.secondary_key),
        "allowed from": ", ".join(policy.networks.allow),
        "denied from": ", ".join(policy.networks.deny),
    }


def _check_asker(exchange: Exchange, name: str, networks: Networks) -> None:
    """Raises BadRequest where the policy that asks would be closed to the address that it asks from."""
    address = exchange.link.peer.rpartition(":")[0]
    if exchange.principal is None or exchange.principal.policy != name:
        return
    if why := why_shut_out(networks, address):
        raise BadRequest(
            f"This would shut out you, who ask with this policy from {address}: {why}. With shutMeOut it is done.",
            reason=f"policy {name!r} would shut out its own operator at {address}: {why}",
            remedy="allow that address, or say that it is wanted",
        )


def _json(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "rights": permission_words(policy.permissions),
        "primaryKey": msgspec.to_builtins(policy.primary_key),
        "secondaryKey": msgspec.to_builtins(policy.secondary_key),
        "networks": {"allow": policy.networks.allow, "deny": policy.networks.deny},
    }
