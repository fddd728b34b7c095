"""Which operations over HTTPS the audit tells of: all that change something, all that show keys; and what it says."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from hubkeep.cloud.audit import safe, safe_name
from hubkeep.cloud.audit_trail import credential_of
from hubkeep.model import AuditChain, AuditEntry, LinkInfo, Principal

from .operations import OPERATIONS, Operation


class Audited(NamedTuple):
    """when: before the operation and durable; after it and durable, before the answer; or noted, durable soon."""

    chain: AuditChain
    when: Literal["before", "after", "soon"]


# What asks only, though its method is none of a reader's; devices' own messages and files; what settles a message.
NOT_AUDITED: Final = frozenset(
    {
        "devices/query",
        "enrolments/query",
        "groups/query",
        "registrations/query",
        "registrations/own",
        "configurations/test",
        "admin/access/preview",
        "feedback/settle",
        "feedback/abandon",
        "filenotifications/settle",
        "filenotifications/abandon",
        "events/post",
        "events/post/module",
        "devicebound/settle",
        "devicebound/settle/module",
        "devicebound/abandon",
        "devicebound/abandon/module",
        "files/begin",
        "files/notify",
        "files/notify/id",
        "revocation/ask",
        "people/logout",
        "est/serverkeygen",
        "est/serverkeygen/label",
        "est/fullcmc",
        "est/fullcmc/label",
    }
)
_COMMANDS: Final = frozenset(
    {
        "methods/invoke",
        "methods/invoke/module",
        "digitaltwins/command",
        "digitaltwins/command/component",
        "devicebound/send",
        "devicebound/send/module",
    }
)
# Answers with keys: those that are rare are told before anything is shown, those of every back end soon after.
_DISCLOSURES: Final = {
    "devices/list": Audited("disclosures", "soon"),
    "devices/get": Audited("disclosures", "soon"),
    "modules/list": Audited("disclosures", "soon"),
    "modules/get": Audited("disclosures", "soon"),
    "devices/token": Audited("disclosures", "after"),
    "modules/token": Audited("disclosures", "after"),
    "enrolments/attestation": Audited("disclosures", "before"),
    "groups/attestation": Audited("disclosures", "before"),
    "groups/key": Audited("disclosures", "before"),
    "admin/identities": Audited("disclosures", "before"),
    "admin/policies": Audited("disclosures", "before"),
    "admin/policies/get": Audited("disclosures", "before"),
}


def _audited(operation: Operation) -> Audited | None:
    if (disclosure := _DISCLOSURES.get(operation.name)) is not None:
        return disclosure
    if operation.surface != "https" or operation.address.startswith("GET ") or operation.name in NOT_AUDITED:
        return None
    return Audited("commands", "soon") if operation.name in _COMMANDS else Audited("changes", "after")


AUDITED: Final = {row.name: found for row in OPERATIONS if (found := _audited(row)) is not None}


def entry_of(
    chain: AuditChain,
    time: int,
    principal: Principal | None,
    link: LinkInfo,
    operation: str,
    target: str,
    outcome: str,
    *,
    detail: str = "",
    tracking_id: str = "",
) -> AuditEntry:
    """time: Unix milliseconds. target: as the peer named it. detail: anything; what looks like a secret is hidden."""
    return AuditEntry(
        chain=chain,
        time=time,
        actor=principal.name if principal is not None else "",
        credential=credential_of(principal) if principal is not None else "",
        surface=link.surface,
        peer=link.peer,
        operation=operation,
        target=safe_name(target),
        outcome=outcome,
        detail=safe(detail),
        tracking_id=tracking_id,
    )


class Secret(NamedTuple):
    """Compared, never told."""

    value: object


def secret(value: object) -> Secret | None:
    return None if value is None else Secret(value)


def difference(before: Mapping[str, object] | None, after: Mapping[str, object]) -> str:
    """What changed, as the audit says it: ``status: enabled to disabled; primary key: replaced``.

    before: None for what was made; then what it has.
    """
    if before is None:
        told = [(name, _words(value)) for name, value in after.items() if value not in {None, "", False}]
    else:
        told = [(name, _change(before.get(name), value)) for name, value in after.items() if before.get(name) != value]
    return "; ".join(f"{name}: {words}" for name, words in told)


def _change(before: object, after: object) -> str:
    if isinstance(before, Secret) or isinstance(after, Secret):
        return "made" if before is None else "removed" if after is None else "replaced"
    return f"{_words(before)} to {_words(after)}"


def _words(value: object) -> str:
    return "set" if isinstance(value, Secret) else str(value) if value not in {None, ""} else "nothing"
