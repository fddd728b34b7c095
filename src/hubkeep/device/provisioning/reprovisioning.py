"""What happens when a device registers again: whether it moves, and what becomes of its twin. Pure.

Source: provisioning-and-pki 2.5.
"""

from typing import Any, Final, NamedTuple

import msgspec

from hubkeep.model import (
    Enrolment,
    Json,
    RegisterRequest,
    Registration,
    ReprovisionPolicy,
    Substatus,
    Twin,
    TwinChange,
)
from hubkeep.ports import TwinEdit

_STICKY_UNTIL: Final = "2018-04-01"  # API versions up to this one do not move a device unless a policy says so
_TELLS_MORE_SINCE: Final = "2019-04-15"  # older API versions know one substatus


class Assignment(NamedTuple):
    """Where a device goes. payload: for the device, from whoever allocated. initial_twin: of a new identity."""

    hub: str
    initial_twin: Json | None
    payload: Any = None


def may_move(enrolment: Enrolment, request: RegisterRequest) -> bool:
    """Whether a device that was assigned is allocated again (2.5)."""
    if enrolment.reprovision is None:
        return not request.api_version or request.api_version[:10] > _STICKY_UNTIL
    return enrolment.reprovision.update_hub_assignment


def _has_moved(assignment: Assignment, before: Registration | None) -> bool:
    return before is not None and bool(before.hub) and before.hub != assignment.hub


def is_reset(enrolment: Enrolment, assignment: Assignment, before: Registration | None) -> bool:
    """Whether the device begins anew at another hub."""
    policy = enrolment.reprovision or ReprovisionPolicy()
    return _has_moved(assignment, before) and not policy.migrate_device_data


def without_reported(edit: TwinEdit, before: Twin) -> TwinChange:
    """The twin begins anew; its versions go on rising, since the device may be connected."""
    change = edit.change(before)
    fresh = msgspec.structs.replace(Twin(device_id=before.device_id).reported, version=before.reported.version + 1)
    gone: Json = dict.fromkeys(before.reported.properties)
    return msgspec.structs.replace(
        change, twin=msgspec.structs.replace(change.twin, reported=fresh), reported=gone or None
    )


def substatus(
    enrolment: Enrolment, request: RegisterRequest, assignment: Assignment, before: Registration | None
) -> Substatus:
    if before is None or not before.hub or request.api_version[:10] < _TELLS_MORE_SINCE:
        return "initialAssignment"
    if _has_moved(assignment, before):
        return "deviceDataReset" if is_reset(enrolment, assignment, before) else "deviceDataMigrated"
    if not may_move(enrolment, request):
        return "reprovisionedToInitialAssignment"
    return before.substatus or "initialAssignment"
