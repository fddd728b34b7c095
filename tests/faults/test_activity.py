"""Connection states while the registry cannot be written: late, and true in the end."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversations.mqtt_peer import eventually
from conversations.test_connection_state import connected, identity, wait_state
from conversations.test_event_sources import put, told, words
from hubkeep.testing import HubInThread


@contextlib.contextmanager
def failing_states(data: Path) -> Iterator[None]:
    """Every write of a connection state fails, as long as this lasts."""

    def execute(statement: str) -> None:
        with contextlib.closing(sqlite3.connect(data / "registry.db", timeout=30)) as registry:
            registry.execute(statement)
            registry.commit()

    execute("CREATE TRIGGER fault BEFORE UPDATE OF connected ON identity BEGIN SELECT RAISE(ABORT, 'fault'); END")
    try:
        yield
    finally:
        execute("DROP TRIGGER fault")


def test_changes_that_could_not_be_written_are_written_later(caplog: pytest.LogCaptureFixture) -> None:
    with HubInThread(events={"sources": ["deviceConnectionStateEvents"]}) as hub:
        for device in ("leaves", "comes", "leaves-and-comes"):
            put(hub, device)
        with contextlib.ExitStack() as peers:
            leaving = peers.enter_context(contextlib.ExitStack())
            for device in ("leaves", "leaves-and-comes"):
                leaving.enter_context(connected(hub, "mqtt", device))
                wait_state(hub, device, "Connected")
            with failing_states(hub.data):
                leaving.close()
                assert eventually(lambda: "activity: the registry cannot be written: fault" in caplog.text, 30)
                peers.enter_context(connected(hub, "mqtt", "comes"))
                peers.enter_context(connected(hub, "mqtt", "leaves-and-comes"))
                caplog.clear()
                assert eventually(lambda: caplog.text.count("activity: the registry cannot be written") > 1, 30)
                assert identity(hub, "leaves")["connectionState"] == "Connected"
            wait_state(hub, "leaves", "Disconnected")
            wait_state(hub, "comes", "Connected")
            wait_state(hub, "leaves-and-comes", "Connected")
            turns = words(told(hub, 3, "leaves-and-comes", "deviceConnectionStateEvents"))
            assert [turn for turn, _ in turns] == ["deviceConnected", "deviceDisconnected", "deviceConnected"]
            turns = words(told(hub, 2, "leaves", "deviceConnectionStateEvents"))
            assert [turn for turn, _ in turns] == ["deviceConnected", "deviceDisconnected"]


def test_what_waits_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    with HubInThread(limits={"activity_kept": 2}) as hub:
        for number in range(4):
            put(hub, f"d{number}")
        with failing_states(hub.data), contextlib.ExitStack() as peers:
            for number in range(4):
                peers.enter_context(connected(hub, "mqtt", f"d{number}"))
            assert eventually(lambda: "connection states could not be written and are given up" in caplog.text, 30)
        with connected(hub, "mqtt", "d3"):
            wait_state(hub, "d3", "Connected")
