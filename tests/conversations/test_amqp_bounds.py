"""Many identities on one connection, and peers that take more than their share, by raw frames over TLS."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversations.amqp_peer import AmqpPeer, condition, data, device_token, events_token
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp import Described, ULong
from hubkeep.wire.amqp.performatives import Attach, Begin, Detach, Disposition, Flow, Transfer

DEVICES = 1000


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A directory where the thousand syncs of a thousand registrations cost nothing, if the system has one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def register(hub: HubInThread, names: list[str]) -> None:
    for at in range(0, len(names), 100):

        async def some(part: list[str] = names[at : at + 100]) -> None:
            await asyncio.gather(*(hub.hub.ensure_device(name) for name in part))

        hub.ask(some())


@pytest.mark.spec("D-116", "L-L15")
def test_a_thousand_devices_on_one_connection() -> None:
    names = [f"many-{number}" for number in range(DEVICES)]
    with in_memory() as data_directory, HubInThread(data=data_directory) as hub:
        register(hub, names)
        with AmqpPeer(hub).opened(channel=2000) as peer:
            peer.authorised(hub.token(policy="device"), channel=2000)
            for channel, name in enumerate(names):
                target = Described(ULong(0x29), [f"/devices/{name}/messages/events"])
                peer.send(Begin(None, 0, 100, 100), Attach("same name", 0, False, target=target), channel=channel)
            attached = {peer.expect_frame((Begin, Attach)).channel for _ in range(2 * DEVICES)}
            assert len(attached) == DEVICES
            for channel in range(DEVICES):
                peer.send(Transfer(0, 0, b"t"), channel=channel, payload=data(b"%d" % channel))
            answered = {peer.expect_frame(Disposition).channel for _ in range(DEVICES)}
            assert len(answered) == DEVICES
        assert len(hub.wait_for_events(DEVICES)) == DEVICES


def test_more_tokens_than_a_connection_may_hold() -> None:
    with HubInThread() as hub:
        key = sas.parse_connection_string(hub.policy_connection_string("device")).key
        expiry = int(hub.clock.now()) + 600
        with AmqpPeer(hub).opened() as peer:
            peer.node(credit=1200)
            tokens = [sas.make(f"{hub.host_name}/devices/d{number}", key, expiry, "device") for number in range(1101)]
            statuses = [peer.put_token(token).status for token in tokens]
            assert statuses == [200] * 1100 + [403]
            assert peer.put_token(tokens[0]).status == 200  # to renew is always possible
            hub.clock.move(950)  # all have lapsed
            hub.create_device("d1")


@pytest.mark.spec("L-L13", "L-O2")
def test_a_reader_that_does_not_read_is_fed_no_more_and_then_closed() -> None:
    with HubInThread() as hub, AmqpPeer.device(hub, "loud") as loud:
        loud.attached("/devices/loud/messages/events", handle=0)
        last = 0
        body = data(b"x" * 60_000)
        for _ in range(250):
            last = loud.transfer(0, body)
        while loud.expect(Disposition).last != last:
            pass
        partition = hub.wait_for_events(1)[0]["partition"]
        address = f"hubkeep-events/ConsumerGroups/$Default/Partitions/{partition}"
        with AmqpPeer.reader(hub) as stuck, AmqpPeer.reader(hub) as other:
            stuck.attached(address, handle=0, receiver=True)
            stuck.send(Flow(0, 2**31 - 1, 0, 2**31 - 1, 0, 0, 100_000))
            other.attached(address, handle=0, receiver=True)
            other.credit(0, 3)
            assert [other.event(0).annotations["x-opt-sequence-number"] for _ in range(3)] == [0, 1, 2]
            before = hub.hub.event_readers
            hub.clock.move(15)
            other.credit(0, 1, count=3)
            other.event(0)
            hub.clock.move(10)
            eventually(lambda: hub.hub.event_readers == before - 1)
            assert eventually(lambda: [each for each in hub.refusals() if "does not read" in repr(each)])
            other.credit(0, 1, count=4)
            assert other.event(0).annotations["x-opt-sequence-number"] == 4
            assert loud.outcome(loud.transfer(0, data(b"y"))) == ("accepted", "")


def test_a_link_that_is_detached_while_it_is_made(shared_hub: HubInThread, device_id: str) -> None:
    """Attach and detach in one piece, many times: nothing is left of it."""
    readers = shared_hub.hub.event_readers
    with AmqpPeer.reader(shared_hub) as peer:
        source = Described(ULong(0x28), ["hubkeep-events/ConsumerGroups/$Default/Partitions/0"])
        for handle in range(50):
            peer.send(Attach(f"r{handle}", handle, True, source=source), Detach(handle, True))
        for _ in range(50):
            peer.expect(Attach)
            assert condition(peer.expect(Detach).error) == ""
        assert peer.put_token(events_token(shared_hub)).status == 200
    eventually(lambda: shared_hub.hub.event_readers == readers)


def test_a_connection_that_is_lost_in_the_middle_of_anything(shared_hub: HubInThread, device_id: str) -> None:
    token = device_token(shared_hub, device_id)
    target = Described(ULong(0x29), [f"/devices/{device_id}/messages/events"])
    for number in range(20):
        peer = AmqpPeer(shared_hub).opened()
        if number % 2:
            peer.authorised(token)
        peer.send(Attach("x", 0, False, target=target))
        if number % 2:
            peer.send(Attach("y", 1, False, target=target))
            peer.transfer(1, data(b"x"))
        peer.sock.close()
    with AmqpPeer.device(shared_hub, device_id) as peer:
        peer.attached(f"/devices/{device_id}/messages/events", handle=0)
        assert peer.outcome(peer.transfer(0, data(b"alive"))) == ("accepted", "")
