"""People whom an OpenID Connect provider vouches for, and the roles that they are given here."""

from typing import Literal

import msgspec

RoleName = Literal["reader", "contributor", "registry-contributor", "twin-contributor", "administrator"]


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """subject: nobody else's at this issuer, for ever. name: as the provider shows it; for eyes alone.

    claims: every text that the token tells of the person, by the dotted name of its claim (``realm_access.roles``):
    what roles are given by.
    """

    issuer: str
    subject: str
    name: str
    claims: frozenset[tuple[str, str]] = frozenset()


class RoleAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever's token holds ``value`` in ``claim`` has ``role``. name: of the assignment.

    devices: a condition of a fleet query; the role is then for the devices that meet it. Empty: for the whole hub.
    is_fixed: it stands in the settings, and is changed there.
    """

    name: str
    role: RoleName
    claim: str
    value: str
    devices: str = ""
    reason: str = ""
    created: float = 0.0
    created_by: str = ""
    is_fixed: bool = False
