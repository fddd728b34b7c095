"""People: who they are here, and what they may."""

from collections.abc import Mapping
from typing import Final, Literal

from hubkeep.errors import NotFound, QueryInvalid, QuotaExceeded, Unauthorized
from hubkeep.limits import HTTP_SERVICE_BODY
from hubkeep.model import RoleName

from ..people import RoleBody
from .rows import JSON, Answer, Body, Described, Parameter, Time, Told, empty, given


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


_LOCATION: Final = Parameter("Location", str, "Where to go on.")
_SIGN_IN: Final = (NotFound, Unauthorized)

ROWS: Final[Mapping[str, Described]] = {
    "people/self": Described("Show who asks, and what they may", given(Self, "Of the credential of this request.")),
    "people/sign-in": Described(
        "Show where people sign in", given(SignIn, "The OpenID Connect provider."), refusals=(NotFound,)
    ),
    "people/page": Described("Show a browser who it is here", {200: Answer("A page.", content="text/html")}),
    "people/login": Described(
        "Send a browser to the provider", {303: Answer("To the provider.", headers=(_LOCATION,))}, refusals=_SIGN_IN
    ),
    "people/callback": Described(
        "Let a browser in that comes back",
        {303: Answer("To the page.", headers=(_LOCATION,))},
        query=(
            Parameter("state", str, "As it was sent."),
            Parameter("code", str, "From the provider."),
            Parameter("iss", str, "The provider."),
            Parameter("error", str, "Why it lets nobody in."),
        ),
        refusals=_SIGN_IN,
    ),
    "people/logout": Described("Sign a browser out", {303: Answer("To the page.", headers=(_LOCATION,))}),
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
