"""A back end that does not read slows nobody but itself, and is closed in the end (L-O2, L-L13)."""

import threading
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer
from conversations.mqtt_peer import MqttPeer, eventually, publish
from hubkeep.testing import HubInThread

BODY = b"x" * 200_000
COUNT = 150  # 30 MB: more than all buffers between the hub and a back end on this machine
READER = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"


@pytest.mark.timeout(180)
@pytest.mark.spec("L-L13")
def test_a_consumer_that_does_not_read_disturbs_nobody_and_is_closed() -> None:
    with HubInThread(events={"partitions": 1}) as hub, AmqpPeer.reader(hub) as slow, AmqpPeer.reader(hub) as quick:
        for peer in (slow, quick):
            peer.attached(READER, handle=0, receiver=True)
            peer.credit(0, 1000)
        numbers: list[Any] = []
        reading = threading.Thread(target=lambda: numbers.extend(number_of(quick) for _ in range(COUNT)))
        reading.start()
        with MqttPeer.logged_in(hub, "press") as device:
            for number in range(COUNT):
                device.send(publish("devices/press/messages/events/", BODY, packet_id=number + 1))
                assert device.read(30) == (0x40, (number + 1).to_bytes(2))
            reading.join(60)
            assert numbers == list(range(COUNT))  # the other back end got everything
            assert hub.hub.event_readers == 2
            hub.clock.move(25)
            assert eventually(lambda: hub.hub.event_readers == 1, within=30)
            assert device.is_open()


def number_of(peer: AmqpPeer) -> Any:
    return peer.event(0).annotations["x-opt-sequence-number"]
