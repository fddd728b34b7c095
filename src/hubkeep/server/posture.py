"""What the hub itself is like, for its posture report; and the report on a data directory that no hub serves."""

from collections.abc import Awaitable, Callable, Sequence

from hubkeep import __version__
from hubkeep.cloud.policies import BUILT_IN, Policies, permission_words
from hubkeep.cloud.posture.posture import Posture, PosturePaths
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.model import Enrolment, GroupFacts, HubFacts, PolicyFacts
from hubkeep.ports import Clock, EnrolmentCondition, FleetPosture, PostureStore
from hubkeep.settings import Settings

_GROUPS = 1000  # more than there can be


class HubState:
    """See ports.HubPosture. settle: writes what waits in memory, so that the report sees it."""

    def __init__(
        self,
        settings: Settings,
        store: PostureStore,
        policies: Policies,
        enrolments: Enrolments,
        *,
        began: float,
    ) -> None:
        self._settings, self._store, self._policies, self._enrolments = settings, store, policies, enrolments
        self._began = began

    async def hub(self, now: float) -> HubFacts:
        facts = await self._store.facts()
        groups = await self._enrolments.page(True, EnrolmentCondition(), "", _GROUPS)
        return HubFacts(
            began=self._began,
            rights_since=facts.get("rights-recorded", now),
            policies=tuple(
                PolicyFacts(each.name, tuple(permission_words(each.permissions).split(", ")), each.name in BUILT_IN)
                for each in self._policies.all()
            ),
            right_uses=tuple(await self._store.right_uses()),
            groups=tuple(map(_group, groups)),
        )


def opened_posture(
    settings: Settings, store: PostureStore, fleet: FleetPosture, hub: HubState, clock: Clock, settle: "Settle"
) -> Posture:
    return Posture(
        store,
        fleet,
        hub,
        clock,
        settle,
        hub_name=settings.host_name,
        version=__version__,
        paths=PosturePaths(settings.posture.owner_path, settings.posture.firmware_path),
    )


Settle = Callable[[], Awaitable[None]]


def in_turn(*settles: Settle) -> Settle:
    async def settle() -> None:
        for each in settles:
            await each()

    return settle


def _group(group: Enrolment) -> GroupFacts:
    admission = group.admission
    bounds: Sequence[tuple[str, bool]] = (
        ("pattern", bool(admission.allowed)),
        ("limit", bool(admission.most)),
        ("end", bool(admission.expires)),
    )
    return GroupFacts(
        name=group.id,
        attestation=group.attestation.type,
        is_enabled=group.status == "enabled",
        bounds=tuple(name for name, holds in bounds if holds),
        changed=group.updated or group.created,
    )
