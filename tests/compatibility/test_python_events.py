"""azure-eventhub (Python), sync and aio, on the Event Hubs-compatible endpoint."""

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.aio import EventHubConsumerClient as AioConsumerClient
from azure.eventhub.exceptions import EventHubError

from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread

TRANSPORTS = [TransportType.Amqp, TransportType.AmqpOverWebsocket]


EVENTS = {"partitions": 2, "consumer_groups": ("analytics",)}


@pytest.fixture(scope="module")
def filled() -> Iterator[HubInThread]:
    """A hub of two partitions and a second consumer group, with 30 messages of one device; tests only read it."""
    with HubInThread(events=EVENTS) as hub, hub.trusted():
        send(hub, range(30))
        yield hub


@pytest.fixture(scope="module")
def busy() -> Iterator[HubInThread]:
    """The same, for tests that send."""
    with HubInThread(events=EVENTS) as hub, hub.trusted():
        send(hub, range(30))
        yield hub


def send(hub: HubInThread, numbers: range, device: str = "press-07") -> None:
    hub.create_device(device)
    items = [{"body": f"m{n}", "base64Encoded": False, "properties": {"iothub-app-n": str(n)}} for n in numbers]
    answer = request(
        hub,
        "POST",
        f"/devices/{device}/messages/events?{VERSION}",
        items,
        policy="device",
        headers={"Content-Type": "application/vnd.microsoft.iothub.json"},
    )
    assert answer.status == 204


def consumer(hub: HubInThread, group: str = "$Default", **options: Any) -> EventHubConsumerClient:
    return EventHubConsumerClient.from_connection_string(
        hub.events_connection_string, consumer_group=group, retry_total=0, **options
    )


def partition_of(hub: HubInThread) -> str:
    """Where the messages of press-07 are."""
    (event,) = hub.wait_for_events(1, device="press-07")
    return str(event["partition"])


def read(client: EventHubConsumerClient, count: int, within: float = 15, **where: Any) -> list[Any]:
    """The first ``count`` events; fewer if no more come in time."""
    got: list[Any] = []
    done = threading.Event()

    def on_event(_context: Any, event: Any) -> None:
        got.append(event)
        if len(got) >= count:
            done.set()

    thread = threading.Thread(target=lambda: client.receive(on_event, **where), daemon=True)
    thread.start()
    done.wait(within)
    client.close()
    thread.join(10)
    return got


@pytest.mark.spec("S-105", "S-106")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_properties(filled: HubInThread, transport: TransportType) -> None:
    with consumer(filled, transport_type=transport) as client:
        hub = client.get_eventhub_properties()
        assert (hub["eventhub_name"], hub["partition_ids"]) == ("hubkeep-events", ["0", "1"])
        assert abs(hub["created_at"] - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)
        partition = client.get_partition_properties(partition_of(filled))
        assert (partition["beginning_sequence_number"], partition["is_empty"]) == (0, False)
        assert partition["last_enqueued_sequence_number"] >= 29
        empty = client.get_partition_properties("1" if partition["id"] == "0" else "0")
        assert (empty["is_empty"], empty["last_enqueued_sequence_number"]) == (True, -1)


@pytest.mark.spec("S-107", "S-109", "S-113")
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_from_the_earliest_with_everything_right(filled: HubInThread, transport: TransportType) -> None:
    # of one partition: over WebSockets, this client waits a second on each that is empty
    where = {"partition_id": partition_of(filled), "starting_position": "-1"}
    events = read(consumer(filled, transport_type=transport), 30, **where)
    assert [event.body_as_str() for event in events] == [f"m{n}" for n in range(30)]
    assert [event.sequence_number for event in events] == list(range(30))
    offsets = [int(event.offset) for event in events]
    assert offsets == sorted(set(offsets))
    assert [event.properties for event in events] == [{b"n": str(n).encode()} for n in range(30)]
    system = events[0].system_properties
    assert system[b"iothub-connection-device-id"] == b"press-07"
    assert system[b"iothub-connection-auth-method"] == (
        b'{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
    )
    assert system[b"iothub-message-source"] == b"Telemetry"
    assert system[b"iothub-connection-auth-generation-id"].isdigit()
    assert isinstance(system[b"iothub-enqueuedtime"], int)
    assert abs(events[0].enqueued_time - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


@pytest.mark.spec("S-107")
def test_from_a_sequence_an_offset_and_a_time(filled: HubInThread) -> None:
    partition = partition_of(filled)
    everything = read(consumer(filled), 30, partition_id=partition, starting_position="-1")

    def first(position: Any, *, inclusive: bool = False) -> str:
        where = {"starting_position": position, "starting_position_inclusive": inclusive, "partition_id": partition}
        return read(consumer(filled), 1, **where)[0].body_as_str()

    with ThreadPoolExecutor(6) as readers:  # each client takes a second to open and to close
        found = [
            readers.submit(first, 10),
            readers.submit(first, 10, inclusive=True),
            readers.submit(first, everything[5].offset),
            readers.submit(first, everything[5].offset, inclusive=True),
            readers.submit(first, everything[0].enqueued_time - dt.timedelta(seconds=1)),
        ]
    assert [each.result() for each in found] == ["m11", "m10", "m6", "m5", "m0"]
    late = read(
        consumer(filled),
        1,
        2,
        partition_id=partition,
        starting_position=everything[-1].enqueued_time + dt.timedelta(seconds=1),
    )
    assert late == []


@pytest.mark.spec("S-107")
def test_from_the_latest(busy: HubInThread) -> None:
    partition = partition_of(busy)
    got: list[str] = []
    client = consumer(busy)

    def on_event(_context: Any, event: Any) -> None:
        got.append(event.body_as_str())

    readers = busy.hub.event_readers
    where = {"partition_id": partition, "starting_position": "@latest"}
    thread = threading.Thread(target=lambda: client.receive(on_event, **where), daemon=True)
    thread.start()
    wait_until(lambda: busy.hub.event_readers > readers)
    send(busy, range(100, 103))
    wait_until(lambda: len(got) == 3)
    client.close()
    thread.join(10)
    assert got == ["m100", "m101", "m102"]


@pytest.mark.spec("S-110")
def test_consumer_groups(filled: HubInThread) -> None:
    partition = partition_of(filled)
    where = {"partition_id": partition, "starting_position": "-1"}
    assert len(read(consumer(filled, "analytics"), 5, **where)) >= 5
    assert len(read(consumer(filled, "ANALYTICS"), 5, **where)) >= 5
    errors: list[Exception] = []
    client = consumer(filled, "nobodys")
    client.receive(lambda *_: None, on_error=lambda _c, error: (errors.append(error), client.close()), **where)  # type: ignore[func-returns-value]
    assert "amqp:not-found" in str(errors[0])


@pytest.mark.spec("S-111")
def test_a_higher_owner_level_takes_the_partition(filled: HubInThread) -> None:
    partition = partition_of(filled)
    stolen: list[Exception] = []
    low, high, lower = consumer(filled), consumer(filled), consumer(filled)
    where = {"partition_id": partition, "starting_position": "@latest"}
    readers = filled.hub.event_readers

    def receive(client: EventHubConsumerClient, level: int, errors: list[Exception]) -> threading.Thread:
        def on_error(_context: Any, error: Exception) -> None:
            errors.append(error)
            client.close()

        work = {"on_error": on_error, "owner_level": level, **where}
        thread = threading.Thread(target=lambda: client.receive(lambda *_: None, **work), daemon=True)
        thread.start()
        return thread

    receive(low, 1, stolen)
    wait_until(lambda: filled.hub.event_readers > readers)
    receive(high, 5, [])
    wait_until(lambda: bool(stolen))
    assert "amqp:link:stolen" in str(stolen[0])
    refused: list[Exception] = []
    receive(lower, 2, refused)
    wait_until(lambda: bool(refused))
    assert "amqp:link:stolen" in str(refused[0])
    high.close()


@pytest.mark.spec("S-120")
def test_runtime_information_is_sent_when_it_is_asked_for(filled: HubInThread) -> None:
    client = consumer(filled)
    last: list[Any] = []

    def on_event(context: Any, _event: Any) -> None:
        if not last:
            last.append(context.last_enqueued_event_properties)

    partition = partition_of(filled)
    where = {"partition_id": partition, "starting_position": "-1", "track_last_enqueued_event_properties": True}
    thread = threading.Thread(target=lambda: client.receive(on_event, **where), daemon=True)
    thread.start()
    wait_until(lambda: bool(last))
    client.close()
    assert last[0]["sequence_number"] >= 29


def test_batches_and_load_balancing_over_all_partitions(busy: HubInThread) -> None:
    for number in range(6):
        send(busy, range(1), device=f"spread-{number}")
    client = consumer(busy, load_balancing_interval=1)
    seen: dict[str, set[str]] = {}

    def on_batch(context: Any, events: Any) -> None:
        seen.setdefault(context.partition_id, set()).update(
            each.system_properties[b"iothub-connection-device-id"].decode() for each in events
        )

    thread = threading.Thread(
        target=lambda: client.receive_batch(on_batch, starting_position="-1", max_wait_time=1), daemon=True
    )
    thread.start()
    wanted = {f"spread-{number}" for number in range(6)}
    wait_until(lambda: wanted <= set().union(*seen.values()), 30)
    client.close()
    thread.join(10)
    assert sorted(seen) == ["0", "1"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_aio(filled: HubInThread, transport: TransportType) -> None:
    async def first(count: int) -> list[str]:
        client = AioConsumerClient.from_connection_string(
            filled.events_connection_string,
            consumer_group="$Default",
            transport_type=transport,
            load_balancing_interval=1,  # it ends no sooner than after one
        )
        got: list[str] = []
        done = asyncio.Event()

        async def on_event(_context: Any, event: Any) -> None:
            got.append(event.body_as_str())
            if len(got) == count:
                done.set()

        async with client:
            assert await client.get_partition_ids() == ["0", "1"]
            where = {"partition_id": partition_of(filled), "starting_position": "-1"}
            reading = asyncio.create_task(client.receive(on_event, **where))
            await asyncio.wait_for(done.wait(), 15)
        await reading
        return got[:count]

    assert asyncio.run(first(30)) == [f"m{n}" for n in range(30)]


def test_aio_batches_of_four_partitions() -> None:
    devices = [f"spread-{number}" for number in range(8)]

    async def all_of(hub: HubInThread) -> dict[str, set[str]]:
        client = AioConsumerClient.from_connection_string(
            hub.events_connection_string, consumer_group="$Default", load_balancing_interval=1
        )
        seen: dict[str, set[str]] = {}
        done = asyncio.Event()

        async def on_batch(context: Any, events: list[Any]) -> None:
            assert len(events) <= 5
            seen.setdefault(context.partition_id, set()).update(event.body_as_str() for event in events)
            if sum(map(len, seen.values())) == len(devices) * 3:
                done.set()

        async with client:
            assert await client.get_partition_ids() == ["0", "1", "2", "3"]
            readers = [
                asyncio.create_task(
                    client.receive_batch(
                        on_batch, max_batch_size=5, max_wait_time=1, partition_id=each, starting_position="-1"
                    )
                )
                for each in ("0", "1", "2", "3")
            ]
            await asyncio.wait_for(done.wait(), 30)
        await asyncio.gather(*readers)
        return seen

    with HubInThread() as hub, hub.trusted():
        for device in devices:
            hub.create_device(device)
            _send_named(hub, device)
        seen = asyncio.run(all_of(hub))
        events = hub.wait_for_events(len(devices) * 3)
    assert len(seen) > 1
    where = {event["body"]: str(event["partition"]) for event in events}
    assert {body: partition for partition, bodies in seen.items() for body in bodies} == where


def _send_named(hub: HubInThread, device: str) -> None:
    for number in range(3):
        path = f"/devices/{device}/messages/events?{VERSION}"
        assert request(hub, "POST", path, f"{device} {number}".encode(), policy="device").status == 204


@pytest.mark.spec("S-111")
def test_aio_a_higher_owner_level_takes_the_partition(filled: HubInThread) -> None:
    where = {"partition_id": partition_of(filled), "starting_position": "-1"}

    async def contend() -> tuple[str, str]:
        clients = [
            AioConsumerClient.from_connection_string(
                filled.events_connection_string,
                consumer_group="analytics",
                retry_total=0,
                load_balancing_interval=1,
            )
            for _ in range(2)
        ]
        low_reads = asyncio.Event()
        stolen: asyncio.Queue[str] = asyncio.Queue()
        read_by_high: asyncio.Queue[str] = asyncio.Queue()

        async def on_low(_context: Any, _event: Any) -> None:
            low_reads.set()

        async def on_high(_context: Any, event: Any) -> None:
            read_by_high.put_nowait(event.body_as_str())

        async def on_error(_context: Any, error: Exception) -> None:
            stolen.put_nowait(str(error))

        async with clients[0] as low, clients[1] as high:
            tasks = [asyncio.create_task(low.receive(on_low, on_error=on_error, owner_level=1, **where))]
            await asyncio.wait_for(low_reads.wait(), 20)
            tasks.append(asyncio.create_task(high.receive(on_high, owner_level=2, **where)))
            error = await asyncio.wait_for(stolen.get(), 20)
            first = await asyncio.wait_for(read_by_high.get(), 20)
        await asyncio.gather(*tasks)
        return error, first

    error, first = asyncio.run(contend())
    assert "amqp:link:stolen" in error
    assert first == "m0"


@pytest.mark.spec("S-12", "D-91", "L-A15")
def test_who_may_not_read(filled: HubInThread) -> None:
    device_policy = (
        filled.policy_connection_string("device").replace("HostName=", "Endpoint=sb://").replace(";", "/;", 1)
    )
    for connection_string in (
        f"{device_policy};EntityPath=hubkeep-events",
        filled.events_connection_string.replace("SharedAccessKey=", "SharedAccessKey=x"),
        filled.events_connection_string.replace("hubkeep-events", "others"),
    ):
        client = EventHubConsumerClient.from_connection_string(
            connection_string, consumer_group="$Default", retry_total=0
        )
        with client, pytest.raises(EventHubError):
            client.get_eventhub_properties()


@pytest.mark.spec("S-121")
def test_plain_amqp_for_the_development_emulator() -> None:
    with HubInThread(listeners={"plain_amqp_port": 5672}) as hub, hub.trusted():
        send(hub, range(3))
        connection_string = hub.events_connection_string + ";UseDevelopmentEmulator=true"
        client = EventHubConsumerClient.from_connection_string(connection_string, consumer_group="$Default")
        events = read(client, 3, starting_position="-1")
        assert [event.body_as_str() for event in events] == ["m0", "m1", "m2"]


def wait_until(condition: Any, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
