"""The provisioning service, put together."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hubkeep.cloud.policies import PUBLISHED_SEED
from hubkeep.device.authorities import Authorities
from hubkeep.device.identities import Identities
from hubkeep.device.provisioning.allocation import Allocation, Latencies
from hubkeep.device.provisioning.enrolments import Enrolments
from hubkeep.device.provisioning.ids import new_id_scope
from hubkeep.device.provisioning.registrations import Registrations
from hubkeep.errors import BadRequest
from hubkeep.limits import Limits
from hubkeep.messaging.twins import Twins
from hubkeep.model import Json, LinkedHub
from hubkeep.ports import Clock, RecordRefusal, TwinEdit
from hubkeep.settings import Settings, SettingsError
from hubkeep.store.registry import Registry

from .data_directory import host_names


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

    def initial_twin(device_id: str, wanted: Json) -> TwinEdit:
        return _initial_twin(twins, device_id, wanted)

    wanted = settings.provisioning
    allocation = Allocation(_linked_hubs(settings), wanted.allocation, _latencies(wanted.networks))
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
        answers_at_once=wanted.answer_at_once,
    )
    return Provisioning(enrolments, registrations, allocation)


def _linked_hubs(settings: Settings) -> Sequence[LinkedHub]:
    """Raises SettingsError for one that is not this hub."""
    own = {each.lower() for each in host_names(settings)}
    for each in settings.provisioning.hubs:
        if each.host_name.lower() not in own:
            raise SettingsError(f"provisioning.hubs: {each.host_name} is not one of host_names")
    linked = [
        LinkedHub(host_name=each.host_name, weight=each.weight, applies=each.takes_part)
        for each in settings.provisioning.hubs
    ]
    return linked or [LinkedHub(host_name=settings.host_name)]


def _latencies(networks: Mapping[str, Mapping[str, float]]) -> Sequence[Latencies]:
    return [
        Latencies(ipaddress.ip_network(network), {name.lower(): each for name, each in to.items()})
        for network, to in networks.items()
    ]


def _initial_twin(twins: Twins, device_id: str, wanted: Json) -> TwinEdit:
    """Raises BadRequest."""
    properties = wanted.get("properties") or {}
    if not isinstance(properties, dict):
        raise BadRequest("The properties of an initialTwin are an object.")
    tags, desired = wanted.get("tags") or {}, properties.get("desired") or {}
    return twins.edit(device_id, "", tags=tags, desired=desired, reported=None, etag="*", merge=False)
