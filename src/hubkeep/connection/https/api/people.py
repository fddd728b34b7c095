"""People: who they are here, and what they may."""

from collections.abc import Mapping
from typing import Final, Literal

from hubkeep.errors import NotFound, QueryInvalid, QuotaExceeded
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import RoleName

from ..people import RoleBody
from .rows import JSON, Body, Described, Time, Told, empty, given


class Role(Told):
    """name: of the assignment. devices: a condition; empty for the whole hub."""

    name: str
    role: RoleName
    devices: str


class Self(Told):
    """permissions: of a policy. roles, actions: of a person. expires: of the credential."""

    kind: Literal["person", "policy"]
    name: str
    subject: str | None
    issuer: str | None
    permissions: str
    scope: str
    roles: list[Role]
    actions: list[str]
    expires: Time | None


class SignIn(Told):
    """resource: what to send to the provider as resource (RFC 8707); empty for nothing."""

    issuer: str
    client_id: str
    scopes: list[str]
    resource: str
    audiences: list[str]


class AssignedRole(Told):
    """Whoever's token holds value in claim has the role. isFixed: it stands in the settings."""

    name: str
    role: RoleName
    claim: str
    value: str
    devices: str
    reason: str
    created: Time | None
    created_by: str
    is_fixed: bool


ROWS: Final[Mapping[str, Described]] = {
    "people/self": Described("Show who asks, and what they may", given(Self, "Of the credential of this request.")),
    "people/sign-in": Described(
        "Show where people sign in", given(SignIn, "The OpenID Connect provider."), refusals=(NotFound,)
    ),
    "admin/roles/list": Described("List who has which role", given(list[AssignedRole], "Those of the settings first.")),
    "admin/roles/put": Described(
        "Give a role",
        given(AssignedRole, "In force."),
        text="For one person (claim `sub`), or for whoever has a group or role at the provider.",
        body=Body({JSON: RoleBody}, HTTP_SERVICE_BODY.value),
        refusals=(QuotaExceeded, QueryInvalid),
    ),
    "admin/roles/delete": Described("Take a role away", empty("What it allowed has ended.")),
}
