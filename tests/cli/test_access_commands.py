"""Block and allow lists, and planned ends, from the command line."""

import re
from collections.abc import Iterator

import pytest

from cli.processes import HubProcess, hub_process


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("access") / "hub") as process:
        yield process


def test_lists(hub: HubProcess) -> None:
    assert "no rules" in hub.ok("access", "list")
    hub.ok("device", "twin", "first-device", "--tag", "hall=3")
    made = hub.ok("access", "block", "hall-3", "--where", "tags.hall = 3", "--reason", "being rebuilt", "--until", "2d")
    assert made == "hall-3 blocks tags.hall = 3: 1 device now\n"
    assert re.search(r"^hall-3 +block +tags.hall = 3 +until .* being rebuilt$", hub.ok("access", "list"), re.MULTILINE)
    allowed = hub.run("access", "allow", "some", "--device", "first-device", "--from", "2099-01-01", "--json").json
    assert (allowed["verdict"], allowed["devices"], allowed["begins"][:10]) == ("allow", ["first-device"], "2099-01-01")
    assert re.search(r"^members +1$", hub.ok("access", "show", "hall-3"), re.MULTILINE)
    assert hub.ok("access", "delete", "hall-3") == "hall-3 is deleted\n"
    assert hub.run("access", "block", "nobody").status == 2
    assert hub.run("access", "block", "two", "--device", "a", "--ca", "b").status == 2
    refused = hub.run("access", "block", "bad", "--where", "status = 'enabled'")
    assert refused.status == 1
    assert "deviceId, tags, properties, authenticationType" in refused.err
    assert "is no time" in hub.run("access", "block", "bad", "--device", "a", "--until", "soon").err


def test_planned_ends(hub: HubProcess) -> None:
    assert hub.ok("device", "expire", "first-device", "--at", "2099-01-31") == (
        "first-device ends on 2099-01-31 00:00:00 UTC\n"
    )
    assert hub.ok("device", "expire", "first-device", "--at", "never") == "first-device ends on no day\n"
    assert "device list" in hub.run("device", "expire", "nobody", "--at", "30d").err
