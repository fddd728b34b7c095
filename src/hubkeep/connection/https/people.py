"""People: who asks and what they may, where they sign in, and the roles that operators give them."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from hubkeep.cloud.policies import permission_words
from hubkeep.cloud.roles import ROLES, Roles
from hubkeep.errors import NotFound
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import Principal, RoleAssignment, RoleName
from hubkeep.settings import People

from ..audited import difference
from ..timestamps import time_stamp
from .answers import json_answer, no_content
from .bodies import json_as
from .browser import Provider
from .exchange import Endpoint, Exchange


class RoleBody(msgspec.Struct, rename="camel"):
    """role: what they may. claim, value: what a token must hold; ``sub`` for one person. devices: a condition; the role
    is then for the devices that meet it."""

    role: RoleName
    value: str
    claim: str = "sub"
    devices: str = ""
    reason: str = ""


class PeopleSurface:
    """settings: where people sign in. provider: what browsers sign in by; None where nobody does."""

    def __init__(self, roles: Roles, settings: People, provider: Provider | None) -> None:
        self._roles, self._settings, self.provider = roles, settings, provider

    def endpoints(self) -> Iterable[Endpoint]:
        return (
            Endpoint("people/self", self.self, "service", dated=False),
            Endpoint("people/sign-in", self.sign_in, "none", dated=False),
            Endpoint("admin/roles/list", self.list, "service", dated=False),
            Endpoint("admin/roles/put", self.put, "service", dated=False),
            Endpoint("admin/roles/delete", self.delete, "service", dated=False),
        )

    async def self(self, exchange: Exchange) -> web.StreamResponse:
        """GET /api/self"""
        assert exchange.principal is not None, "the operation asks for a credential"
        return json_answer(self.told_of(exchange.principal))

    def told_of(self, principal: Principal) -> dict[str, Any]:
        """Who asks, and what they may."""
        person = principal.person
        held: Sequence[RoleAssignment] = self._roles.held(person) if person is not None else ()
        return {
            "kind": "person" if person is not None else "policy",
            "name": person.name if person is not None else principal.policy,
            "subject": person.subject if person is not None else None,
            "issuer": person.issuer if person is not None else None,
            "permissions": permission_words(principal.permissions),
            "scope": "/".join(principal.scope),
            "roles": [{"name": each.name, "role": each.role, "devices": each.devices} for each in held],
            "actions": sorted(set().union(*(ROLES[each.role] for each in held))),
            "expires": time_stamp(principal.expires) if principal.expires else None,
        }

    async def sign_in(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/sign-in"""
        wanted = self._settings
        if not wanted.issuer:
            raise NotFound(
                "Nobody signs in here.", reason="people.issuer is not set", remedy="hubkeep help operating/people"
            )
        return json_answer(
            {
                "issuer": wanted.issuer,
                "clientId": wanted.client_id,
                "scopes": list(wanted.scopes),
                "resource": wanted.resource,
                "audiences": list(wanted.audiences),
            }
        )

    async def list(self, _exchange: Exchange) -> web.StreamResponse:
        """GET /api/roles"""
        return json_answer([_json(each) for each in self._roles.all()])

    async def put(self, exchange: Exchange) -> web.StreamResponse:
        """PUT /api/roles/{name}"""
        wanted = json_as(RoleBody, await exchange.body(HTTP_SERVICE_BODY.value))
        name = exchange.values["name"]
        before = self._roles.get(name)
        made = await self._roles.put(
            RoleAssignment(
                name=name,
                role=wanted.role,
                claim=wanted.claim,
                value=wanted.value,
                devices=wanted.devices,
                reason=wanted.reason,
                created_by=exchange.principal.name if exchange.principal is not None else "",
            )
        )
        exchange.detail = difference(_audited(before) if before is not None else None, _audited(made))
        return json_answer(_json(made))

    async def delete(self, exchange: Exchange) -> web.StreamResponse:
        """DELETE /api/roles/{name}"""
        removed = await self._roles.remove(exchange.values["name"])
        exchange.detail = f"{removed.role} of {removed.claim}={removed.value}"
        return no_content()


def _audited(assignment: RoleAssignment) -> dict[str, object]:
    return {
        "role": assignment.role,
        "for": f"{assignment.claim}={assignment.value}",
        "devices": assignment.devices,
        "reason": assignment.reason,
    }


def _json(assignment: RoleAssignment) -> dict[str, Any]:
    return {
        "name": assignment.name,
        "role": assignment.role,
        "claim": assignment.claim,
        "value": assignment.value,
        "devices": assignment.devices,
        "reason": assignment.reason,
        "created": time_stamp(assignment.created) if assignment.created else None,
        "createdBy": assignment.created_by,
        "isFixed": assignment.is_fixed,
    }
