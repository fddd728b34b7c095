"""The wall clock of a running hub is set forward or back: what time means to whom (L-K1, L-K2)."""

import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conversations.back_end import send_all
from conversations.https_peer import VERSION, Answer, kept_alive, request
from conversations.mqtt_peer import MqttPeer, eventually, publish
from conversations.test_https_proofs import Device
from conversations.test_mqtt_methods import answer, called, device, invoke
from hubkeep import background
from hubkeep.server import composition
from hubkeep.testing import HubInThread

HOUR = 3600
YEAR = 365 * 24 * HOUR


@pytest.fixture
def retention(monkeypatch: pytest.MonkeyPatch) -> "list[int]":
    """Retention runs all the time instead of once a minute; one entry for each run."""
    runs: list[int] = []

    async def every(seconds: float, job: Callable[[], Awaitable[None]], name: str, **more: Any) -> None:
        async def counted() -> None:
            await job()
            runs.append(1)

        if name == "retention":
            await background.every(0.05, counted, name)
        await background.every(seconds, job, name, **more)

    monkeypatch.setattr(composition, "every", every)
    return runs


def queue(device_id: str) -> str:
    return f"/devices/{device_id}/messages/devicebound"


def receive(hub: HubInThread, token: str, path: str, method: str = "GET", **headers: str) -> Answer:
    return request(hub, method, f"{path}?{VERSION}", token=token, headers=headers)


@pytest.mark.timeout(120)
@pytest.mark.spec("L-K1")
def test_a_jump_forward_ends_tokens_and_messages_and_nothing_that_counts_seconds(retention: list[int]) -> None:
    with HubInThread() as hub:
        key = Device(hub, "press").key
        for_years = functools.partial(hub.token, "devices/press", key=key)
        token = for_years(seconds=30 * YEAR)
        send_all(hub, "press", b"locked", iothub_messageid="locked")
        locked = receive(hub, token, queue("press"))
        assert locked.body == b"locked"
        send_all(hub, "press", b"old", iothub_messageid="old")
        with device(hub, "caller") as peer, MqttPeer.logged_in(hub, "late") as late, ThreadPoolExecutor() as pool:
            peer.send(publish("devices/caller/messages/events/", b"before", packet_id=7))
            assert peer.read() == (0x40, b"\0\7")
            call = pool.submit(invoke, hub, "caller", responseTimeoutInSeconds=30)
            _, request_id, _ = called(peer)
            hub.clock.jump(1800)  # within the life of its token
            assert late.is_open()
            assert peer.is_open()  # keep-alives of 60 s
            answer(peer, request_id)
            assert call.result(30).status == 200  # a wait of 30 s
            assert receive(hub, token, queue("press")).body == b"old"  # the lock of 60 s holds the other one
            hub.clock.jump(2 * HOUR)
            assert peer.is_closed()  # its token was for an hour
            assert late.is_closed()
        with kept_alive(hub) as ask:
            assert ask("GET", f"{queue('press')}?{VERSION}", b"", token).status == 204  # they had an hour
            hub.clock.jump(10 * YEAR)
            assert ask("GET", f"{queue('press')}?{VERSION}", b"", token).status == 204
            old = hub.token("devices/press", key=key, seconds=-YEAR)
            assert ask("GET", f"{queue('press')}?{VERSION}", b"", old).status == 401

        def believed(minutes: int) -> int:
            """First sequence number that is kept, after so many minutes."""
            for _ in range(minutes):
                hub.clock.move(60)
                done = len(retention)
                assert eventually(lambda done=done: len(retention) > done + 1)
            status = request(hub, "GET", "/api/status").body
            return sum(each["last_sequence"] + 1 - each["first_sequence"] for each in status["partitions"])

        with MqttPeer.logged_in(hub, "caller") as peer:
            for packet_id in (1, 2):  # the newest batch of a partition always stays
                peer.send(publish("devices/caller/messages/events/", b"after", packet_id=packet_id))
                assert peer.read() == (0x40, bytes((0, packet_id)))
        assert believed(9) == 3
        assert believed(3) < 3


@pytest.mark.timeout(60)
@pytest.mark.spec("L-K2")
def test_a_jump_back_keeps_the_order_of_events_lengthens_tokens_and_holds_nothing_up() -> None:
    with HubInThread() as hub, MqttPeer.logged_in(hub, "press", keep_alive=600) as peer:
        token = hub.token("devices/press", key=Device(hub, "press").key, seconds=HOUR)

        def send(packet_id: int) -> None:
            peer.send(publish("devices/press/messages/events/", b"%d" % packet_id, packet_id=packet_id))
            assert peer.read() == (0x40, bytes((0, packet_id)))

        send(1)
        hub.clock.jump(-10 * HOUR)
        for packet_id in (2, 3):
            send(packet_id)
        stamps = [event["enqueued"] for event in hub.wait_for_events(3)]
        assert stamps == sorted(stamps)
        send_all(hub, "press", b"in time")
        assert receive(hub, token, queue("press")).body == b"in time"
        for _ in range(9):  # nine hours: its token would long be over
            hub.clock.jump(HOUR)
            assert peer.is_open()
        with kept_alive(hub) as ask:
            assert ask("GET", f"{queue('press')}?{VERSION}", b"", token).status in {200, 204}
            hub.clock.jump(2 * HOUR + 600)
            assert ask("GET", f"{queue('press')}?{VERSION}", b"", token).status == 401
        assert peer.is_closed()
