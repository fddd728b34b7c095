"""Consumer groups made and deleted while the hub runs, and read through AMQP at once."""

from pathlib import Path
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data
from conversations.https_peer import Answer, request
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import Detach

ADDRESS = "hubkeep-events/ConsumerGroups/{}/Partitions/0"


def put(hub: HubInThread, name: str, **options: Any) -> Answer:
    return request(hub, "PUT", f"/api/events/groups/{name}", **options)


def names(hub: HubInThread) -> list[str]:
    return [each["name"] for each in request(hub, "GET", "/api/events/groups").body]


@pytest.mark.spec("S-110")
def test_two_groups_read_independently_and_a_deleted_one_is_gone() -> None:
    with HubInThread(events={"partitions": 1}) as hub:
        with AmqpPeer.reader(hub) as peer:
            assert condition(peer.refused(ADDRESS.format("late"), handle=0, receiver=True)) == "amqp:not-found"
        assert put(hub, "late").body["name"] == "late"
        with AmqpPeer.reader(hub) as peer, AmqpPeer.device(hub, "press") as device:
            peer.attached(ADDRESS.format("LATE"), handle=1, receiver=True)
            peer.attached(ADDRESS.format("$Default"), handle=2, receiver=True)
            device.attached("/devices/press/messages/events", handle=0)
            assert device.outcome(device.transfer(0, data(b"one"))) == ("accepted", "")
            for handle in (1, 2):
                peer.credit(handle, 2)
                assert peer.event(handle).annotations["x-opt-sequence-number"] == 0
            assert request(hub, "DELETE", "/api/events/groups/Late").status == 204
            detach = peer.expect(Detach)
            assert (detach.handle, condition(detach.error)) == (1, "amqp:not-found")
            assert condition(peer.refused(ADDRESS.format("late"), handle=3, receiver=True)) == "amqp:not-found"
            assert device.outcome(device.transfer(0, data(b"two"))) == ("accepted", "")
            assert peer.event(2).annotations["x-opt-sequence-number"] == 1
        assert request(hub, "DELETE", "/api/events/groups/late").status == 404


def test_groups_outlive_the_hub(tmp_path: Path) -> None:
    events = {"partitions": 1, "consumer_groups": ("analytics",)}
    with HubInThread(tmp_path / "hub", events=events) as hub:
        made = put(hub, "billing").body
        assert (made["name"], made["fixed"]) == ("billing", False)
        assert put(hub, "Billing").body == made  # it is there
        assert put(hub, "gone").status == 200
        assert request(hub, "DELETE", "/api/events/groups/gone").status == 204
        for name in ("$Default", "analytics"):
            answer = request(hub, "DELETE", f"/api/events/groups/{name}")
            assert (answer.status, answer.code) == (400, "ArgumentInvalid")
        assert names(hub) == ["$Default", "analytics", "billing"]
    with HubInThread(tmp_path / "hub", events=events) as hub:
        assert names(hub) == ["$Default", "analytics", "billing"]
        with AmqpPeer.reader(hub) as peer:
            peer.attached(ADDRESS.format("billing"), handle=0, receiver=True)


def test_twenty_besides_the_default_one(shared_hub: HubInThread) -> None:
    for number in range(20):
        assert put(shared_hub, f"group-{number}").status == 200
    refused = put(shared_hub, "group-20")
    assert (refused.status, refused.code) == (403, "IotHubQuotaExceeded")
    assert put(shared_hub, "group-3").status == 200
    assert request(shared_hub, "DELETE", "/api/events/groups/group-3").status == 204
    assert put(shared_hub, "group-20").status == 200
    assert len(names(shared_hub)) == 21
    for number in range(21):
        request(shared_hub, "DELETE", f"/api/events/groups/group-{number}")


@pytest.mark.parametrize("name", ["-a", "a-", "a%20b", "a" * 51, "%24other", "a%2Fb"])
def test_names_that_no_group_has(shared_hub: HubInThread, name: str) -> None:
    assert put(shared_hub, name).status in {400, 404}
    assert names(shared_hub) == ["$Default"]


@pytest.mark.parametrize("policy", ["registryReadWrite", "service", "device"])
def test_groups_are_for_the_owner_alone(shared_hub: HubInThread, policy: str) -> None:
    assert put(shared_hub, "mine", policy=policy).status == 401
    assert request(shared_hub, "GET", "/api/events/groups", policy=policy).status == 401
    assert request(shared_hub, "DELETE", "/api/events/groups/mine", policy=policy).status == 401
