"""The provisioning service, put together."""

from typing import NamedTuple

from hubkeep.cloud.policies import PUBLISHED_SEED
from hubkeep.device.authorities import Authorities
from hubkeep.device.identities import Identities
from hubkeep.device.provisioning.allocation import Allocation
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.ids import new_id_scope
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.errors import BadRequest
from hubkeep.limits import Limits
from hubkeep.messaging.twins import Twins
from hubkeep.model import Json, LinkedHub, Twin
from hubkeep.ports import Clock, RecordRefusal
from hubkeep.settings import Settings
from hubkeep.store.registry import Registry


class Provisioning(NamedTuple):
    enrolments: Enrolments
    registrations: Registrations
    allocation: Allocation


async def open_provisioning(
    settings: Settings,
    registry: Registry,
    identities: Identities,
    authorities: Authorities,
    twins: Twins,
    clock: Clock,
    limits: Limits,
    refuse: RecordRefusal,
    *,
    published: bool,
) -> Provisioning:
    """published: the id scope derives from the published seed, as the keys do."""

    def initial_twin(device_id: str, wanted: Json) -> Twin:
        return _initial_twin(twins, device_id, wanted)

    allocation = Allocation([LinkedHub(host_name=settings.host_name)], settings.provisioning.allocation)
    enrolments = Enrolments(registry.enrolments, authorities.active, allocation, initial_twin, clock, limits)
    await enrolments.load(new_id_scope(PUBLISHED_SEED if published else b""))
    registrations = Registrations(
        registry.registrations,
        enrolments,
        allocation,
        identities,
        authorities.active,
        initial_twin,
        clock,
        limits,
        refuse,
        answers_at_once=settings.provisioning.answer_at_once,
    )
    return Provisioning(enrolments, registrations, allocation)


def _initial_twin(twins: Twins, device_id: str, wanted: Json) -> Twin:
    """Raises BadRequest."""
    properties = wanted.get("properties") or {}
    if not isinstance(properties, dict):
        raise BadRequest("The properties of an initialTwin are an object.")
    tags, desired = wanted.get("tags"), properties.get("desired")
    return twins.edit(device_id, "", tags=tags, desired=desired, reported=None, etag="*", merge=False).fresh()
