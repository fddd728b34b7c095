"""``from hubkeep.testing import hub``: what a user's own test does with it."""

import time

from azure.iot.device import IoTHubDeviceClient

from hubkeep.testing import HubInThread, hub

__all__ = ["hub"]


def test_a_device_of_this_test_sends_to_a_hub_of_this_test(hub: HubInThread) -> None:
    client = IoTHubDeviceClient.create_from_connection_string(hub.create_device("press-07"))
    client.connect()
    client.send_message("hello")
    client.shutdown()
    assert [event["body"] for event in hub.wait_for_events(1)] == ["hello"]


def test_two_hubs_stand_side_by_side_each_in_seconds(hub: HubInThread) -> None:
    started = time.monotonic()
    with HubInThread() as other:
        assert time.monotonic() - started < 10  # under one on an idle machine
        assert other.address != hub.address
        other.create_device("only-here")
        assert hub.refusals() == []


def test_time_passes_when_the_test_says_so(hub: HubInThread) -> None:
    before = hub.clock.now()
    hub.clock.move(3600)
    assert hub.clock.now() - before >= 3600
