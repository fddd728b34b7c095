"""What the built-in endpoint keeps, changed while the hub runs, and what readers find of what is gone."""

import time
from pathlib import Path
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, data, selector
from conversations.https_peer import Answer, request
from hubkeep.testing import HubInThread

READER = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
HOUR = 3600.0


def change(hub: HubInThread, body: Any, **options: Any) -> Answer:
    return request(hub, "PATCH", "/api/events/retention", body, **options)


def send(hub: HubInThread, *bodies: bytes) -> None:
    """Each in a commit of its own."""
    with AmqpPeer.device(hub, "press") as peer:
        peer.attached("/devices/press/messages/events", handle=0)
        for body in bodies:
            assert peer.outcome(peer.transfer(0, data(body))) == ("accepted", "")


def first_kept(hub: HubInThread, expected: int) -> None:
    deadline = time.monotonic() + 30
    while (first := request(hub, "GET", "/api/status").body["partitions"][0]["first_sequence"]) != expected:
        assert time.monotonic() < deadline, first
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["offset", "sequence-number", "enqueued-time"])
def test_a_reader_of_what_is_gone_starts_at_the_oldest_event_that_is_kept(kind: str) -> None:
    with HubInThread(events={"partitions": 1}) as hub:
        send(hub, b"old 0", b"old 1", b"old 2")
        with AmqpPeer.reader(hub) as peer:
            peer.attached(READER, handle=0, receiver=True)
            peer.credit(0, 1)
            expired = peer.event(0).annotations[f"x-opt-{kind}"]
        hub.clock.move(2 * HOUR)
        send(hub, b"new 0", b"new 1")
        assert change(hub, {"hours": 1}).status == 200
        first_kept(hub, 3)
        with AmqpPeer.reader(hub) as peer:
            wanted = selector(f"amqp.annotation.x-opt-{kind} > '{expired}'")
            peer.attached(READER, handle=0, receiver=True, filters=wanted)
            peer.credit(0, 5)
            assert [peer.event(0).data for _ in range(2)] == [[b"new 0"], [b"new 1"]]


def test_a_size_deletes_the_oldest_and_never_the_newest() -> None:
    with HubInThread(events={"partitions": 1}) as hub:
        send(hub, b"a" * 1000, b"b" * 1000, b"c" * 1000)
        assert change(hub, {"bytes": 1}).status == 200
        first_kept(hub, 2)
        send(hub, b"d")
        assert [each["body"][:1] for each in hub.wait_for_events(2)] == ["c", "d"]


def test_a_change_outlives_the_hub_and_null_takes_it_back(tmp_path: Path) -> None:
    events = {"retention_hours": 48, "retention_bytes": 1 << 30}
    default = {"hours": 48.0, "bytes": 1 << 30}
    with HubInThread(tmp_path / "hub", events=events) as hub:
        assert request(hub, "GET", "/api/events/retention").body == {**default, "default": default}
        assert change(hub, {"hours": 0.5}).body == {"hours": 0.5, "bytes": 1 << 30, "default": default}
        assert change(hub, {"bytes": 4096}).body == {"hours": 0.5, "bytes": 4096, "default": default}
        assert change(hub, {}).body == {"hours": 0.5, "bytes": 4096, "default": default}
    events["retention_bytes"], default["bytes"] = 1 << 31, 1 << 31
    with HubInThread(tmp_path / "hub", hub.address, events=events) as hub:
        state = request(hub, "GET", "/api/events/retention").body
        assert state == {"hours": 0.5, "bytes": 4096, "default": default}
        assert change(hub, {"bytes": None}).body == {"hours": 0.5, "bytes": 1 << 31, "default": default}
        status = request(hub, "GET", "/api/status").body
        assert (status["retention_hours"], status["retention_bytes"]) == (0.5, 1 << 31)


@pytest.mark.parametrize(
    "body", [{"hours": 0}, {"hours": -1}, {"hours": 1e300}, {"hours": "1"}, {"bytes": 0}, {"bytes": 1.5}, [1], b"{"]
)
def test_what_cannot_be_kept_changes_nothing(shared_hub: HubInThread, body: Any) -> None:
    before = request(shared_hub, "GET", "/api/events/retention").body
    assert change(shared_hub, body).status == 400
    assert request(shared_hub, "GET", "/api/events/retention").body == before


def test_owners_alone_see_and_change_it(shared_hub: HubInThread) -> None:
    for policy in ("service", "registryReadWrite", "device"):
        assert change(shared_hub, {"hours": 1}, policy=policy).status == 401
        assert request(shared_hub, "GET", "/api/events/retention", policy=policy).status == 401
