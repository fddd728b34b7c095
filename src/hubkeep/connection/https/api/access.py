"""Who may be here, and how credentials are used: for operators."""

from collections.abc import Mapping
from typing import Final, Literal

from hubkeep.errors import (
    DeviceNotFound,
    ModuleNotFound,
    PolicyNotFound,
    PreconditionFailed,
    QueryInvalid,
    QuotaExceeded,
)
from hubkeep.limits import HTTP_SERVICE_BODY

from ..access import AccessRuleBody, BlockBody, ExpiryBody
from ..device_tokens import TokenBody
from .rows import (
    ETAG,
    IF_MATCH,
    IF_MATCH_CREATES,
    JSON,
    Body,
    Count,
    Described,
    Etag,
    Parameter,
    Time,
    Told,
    empty,
    given,
)


class AccessRule(Told):
    """members: devices that it is for now; null where an authority decides."""

    name: str
    verdict: Literal["block", "allow"]
    devices: list[str]
    condition: str
    authority: str
    reason: str
    begins: Time | None
    ends: Time | None
    created: Time
    members: Count | None
    etag: Etag


class AccessPreview(Told):
    """cut: devices that are connected and would be shut out. devices: some of them."""

    connected: Count
    cut: Count
    devices: list[str]


class PlannedEnd(Told):
    """at: null for a device that ends on no day."""

    device_id: str
    at: Time | None
    reason: str


class Blocked(Told):
    """enrollment: the individual one that is disabled now; empty where no registration can have the id.

    denials: entries made on the deny-list.
    """

    device_id: str
    status: Literal["disabled"]
    enrollment: str
    denials: Count


class CredentialUse(Told):
    """How one credential was last used. slot: ``authority`` for a certificate that a registered authority vouches for.

    policy: null for an identity's own. created: null where it is not known.
    """

    device_id: str | None
    module_id: str | None
    policy: str | None
    slot: Literal["primary", "secondary", "authority"]
    created: Time | None
    first_used: Time | None
    last_used: Time | None
    uses: Count
    surface: str
    tls: str
    client: str
    peer: str
    token_seconds: Count
    old_tls: str
    old_tls_used: Time | None


class DeviceToken(Told):
    """token: for one identity alone; the policy's key signed it. expires: never after the asker's own token."""

    token: str
    expires: Time
    policy: str
    device_id: str
    module_id: str | None


class Seen(Told):
    name: str
    last_seen: Time | None


class Rollover(Told):
    """outgoing: who would be shut out. unknown: who has not been here since the other credential was made."""

    retire: Literal["primary", "secondary"]
    confirmed: Count
    outgoing: list[Seen]
    unknown: list[Seen]


_LIMIT: Final = HTTP_SERVICE_BODY.value
_TOKEN: Final = Described(
    "Make a token for a device",
    given(DeviceToken, "The token; it is nowhere else."),
    text="For a service that proves devices in its own way. The policy that signs holds DeviceConnect and nothing "
    "else; the token is limited to this identity, and ends when the policy's key is replaced.",
    body=Body({JSON: TokenBody}, _LIMIT, is_required=False),
    refusals=(DeviceNotFound, PolicyNotFound),
)
_RULE: Final = given(AccessRule, "The rule.", ETAG)

ROWS: Final[Mapping[str, Described]] = {
    "devices/token": _TOKEN,
    "modules/token": _TOKEN._replace(summary="Make a token for a module", refusals=(*_TOKEN.refusals, ModuleNotFound)),
    "admin/access/list": Described("List block and allow rules", given(list[AccessRule], "By name.")),
    "admin/access/get": Described("Get a block or allow rule", _RULE),
    "admin/access/put": Described(
        "Block or allow devices",
        _RULE,
        text="For devices by id, for those that meet a condition on their twin, or for those below an authority. "
        "In force when it is answered: whom it shuts out is cut.",
        body=Body({JSON: AccessRuleBody}, _LIMIT),
        headers=(IF_MATCH_CREATES,),
        refusals=(PreconditionFailed, QuotaExceeded, QueryInvalid),
    ),
    "admin/access/preview": Described(
        "Show whom a rule would cut",
        given(AccessPreview, "Nothing is changed."),
        body=Body({JSON: AccessRuleBody}, _LIMIT),
        refusals=(QueryInvalid,),
    ),
    "admin/access/delete": Described(
        "Delete a block or allow rule",
        empty("It is gone."),
        headers=(IF_MATCH,),
        refusals=(PreconditionFailed,),
    ),
    "admin/devices/block": Described(
        "Block a device at the hub, in provisioning, and by its certificates",
        given(Blocked, "It is blocked: its connections end, and no registration brings it back."),
        text="What was done before a refusal stays done; call it again.",
        body=Body({JSON: BlockBody}, _LIMIT),
        refusals=(DeviceNotFound, QuotaExceeded),
    ),
    "admin/expiry/get": Described("Show when a device ends", given(PlannedEnd, "Its planned end.")),
    "admin/expiry/put": Described(
        "Plan the end of a device",
        given(PlannedEnd, "It is disabled at that time."),
        body=Body({JSON: ExpiryBody}, _LIMIT),
        refusals=(DeviceNotFound,),
    ),
    "admin/expiry/delete": Described(
        "Let a device stay", empty("It ends on no day any more."), refusals=(DeviceNotFound,)
    ),
    "admin/credentials": Described(
        "Show how a device's or a policy's credentials are used",
        given(list[CredentialUse], "By slot."),
        query=(
            Parameter("device", str, "A device's id."),
            Parameter("module", str, "A module of it, instead."),
            Parameter("policy", str, "A shared access policy, instead."),
        ),
        refusals=(DeviceNotFound, ModuleNotFound),
    ),
    "admin/credentials/rollover": Described(
        "Show who stands on a key that is to be retired",
        given(Rollover, "At most a thousand names of each kind, the last seen first."),
        query=(
            Parameter("retire", Literal["primary", "secondary"], "The key or thumbprint.", is_required=True),
            Parameter("condition", str, "Of these devices alone; as in a block or allow rule."),
            Parameter("since", str, "ISO 8601: uses before it tell nothing."),
        ),
        refusals=(QueryInvalid,),
    ),
    "admin/credentials/old-tls": Described(
        "Show who came with TLS 1.0 or 1.1", given(list[CredentialUse], "The newest first.")
    ),
}
