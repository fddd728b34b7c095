"""L-R10: every refusal is counted by its row, and nobody floods the log."""

import logging
import re
import time
import urllib.request

import pytest

from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, eventually, publish
from hubkeep.errors import ROWS, HubError
from hubkeep.testing import HubInThread
from spec.coverage import statements


def rows(hub: HubInThread) -> dict[str, int]:
    """As ``/metrics`` shows them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{hub.hub.ports['metrics']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^hubkeep_refusals_by_row_total\{row="([^"]+)"\} (\d+)', text, re.MULTILINE)
    return {row: int(count) for row, count in found}


def told(records: list[logging.LogRecord]) -> tuple[int, int]:
    """Lines of single refusals, and refusals that lines leave out."""
    lines = [each.getMessage() for each in records if each.name == "hubkeep.refusals"]
    left_out = [int(found[1]) for each in lines if (found := re.fullmatch(r"refused from [\d.]+: (\d+) more", each))]
    return len(lines) - len(left_out), sum(left_out)


def test_every_refusal_has_a_row_of_the_specification() -> None:
    assert HubError in ROWS
    assert set(ROWS.values()) <= set(statements())


@pytest.mark.spec("L-R10")
def test_refusals_are_counted_by_row_and_ten_lines_a_second_tell_of_them(caplog: pytest.LogCaptureFixture) -> None:
    with HubInThread() as hub, caplog.at_level(logging.WARNING, "hubkeep.refusals"):
        hub.create_device("counted")
        expected = {"L-I1": 60, "L-H7": 1, "L-H5": 2, "L-R7": 1, "L-D1": 1, "L-H8": 1, "L-M14": 1, "L-R2": 1}
        began = time.monotonic()
        for _ in range(60):
            assert request(hub, "GET", f"/devices?{VERSION}", token="").status == 401
        assert request(hub, "GET", "/devices").status == 400
        assert request(hub, "GET", "/nothing").status == 404
        assert request(hub, "PATCH", f"/devices/counted?{VERSION}").status == 405
        assert request(hub, "GET", f"/twins/counted?{VERSION}", policy="registryRead").status == 401
        assert request(hub, "PUT", f"/devices/a?{VERSION}", b"{").status == 400
        stale = {"If-Match": "stale"}
        assert request(hub, "DELETE", f"/devices/counted?{VERSION}", headers=stale).status == 412
        assert request(hub, "GET", f"/devices/x?{VERSION}").status == 404
        with MqttPeer.logged_in(hub, "counted") as peer:
            peer.send(publish("devices/another/messages/events/"))
            assert peer.is_closed()
        assert rows(hub) == expected
        seconds = int(time.monotonic() - began) + 2  # those that have begun
        assert told(caplog.records)[0] <= 10 * seconds
        assert eventually(lambda: sum(told(caplog.records)) == sum(expected.values()))
