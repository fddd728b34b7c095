"""Operators' view of the shared access policies. Whoever may ask holds all rights already, and sees their keys.

Members are named as resource descriptions name them: rights, primaryKey, secondaryKey. Source: service-protocols 1.4.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from aiohttp import web

from hubkeep.cloud.policies import Policies, permission_words
from hubkeep.device.keys import key_from_text
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import Policy

from ..audited import difference, secret
from .answers import json_answer, no_content
from .bodies import json_as
from .exchange import Endpoint, Exchange


class PolicyBody(msgspec.Struct, rename="camel"):
    """rights: joined by a comma. Keys: base64; those that are left out stay, or are made."""

    rights: str
    primary_key: str | None = None
    secondary_key: str | None = None


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
        """PUT /api/policies/{name}: creates, or changes rights; live links of other rights or keys are cut."""
        wanted = json_as(PolicyBody, await exchange.body(HTTP_SERVICE_BODY.value))
        primary = key_from_text(wanted.primary_key, "primaryKey") if wanted.primary_key else None
        secondary = key_from_text(wanted.secondary_key, "secondaryKey") if wanted.secondary_key else None
        name = exchange.values["name"]
        before = self._policies.get(name)
        policy = await self._policies.define(name, wanted.rights, primary, secondary)
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
    }


def _json(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "rights": permission_words(policy.permissions),
        "primaryKey": msgspec.to_builtins(policy.primary_key),
        "secondaryKey": msgspec.to_builtins(policy.secondary_key),
    }
