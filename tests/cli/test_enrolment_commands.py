"""Enrolments from the command line, against a hub that runs."""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.processes import HubProcess, hub_process
from conversations.certificates import Certificate
from hubkeep.device.keys import derived_key


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("enrol") / "hub") as process:
        yield process


def test_one_device(hub: HubProcess, tmp_path: Path) -> None:
    assert "show press-07 --keys" in hub.ok("enroll", "create", "press-07", "--device-id", "press")
    shown = hub.run("enroll", "show", "press-07", "--keys", "--json").json
    key = shown["attestation"]["symmetricKey"]["primaryKey"]
    assert (shown["deviceId"], len(b64decode(key))) == ("press", 64)
    assert key not in hub.ok("enroll", "show", "press-07")
    assert key in hub.ok("enroll", "show", "press-07", "--keys")
    assert hub.ok("enroll", "disable", "press-07") == "press-07 is disabled\n"
    assert "disabled" in hub.ok("enroll", "list")
    assert hub.run("enroll", "show", "press-07", "--keys", "--json").json["attestation"] == shown["attestation"]
    assert hub.ok("enroll", "enable", "press-07") == "press-07 is enabled\n"
    again = hub.run("enroll", "create", "press-07")
    assert (again.status, "409201" in again.err) == (1, True)
    file = Certificate.made("press-08").file(tmp_path)
    assert hub.ok("enroll", "create", "press-08", "--certificate", str(file)) == "press-08 is enrolled, by x509\n"
    assert hub.ok("enroll", "delete", "press-08").startswith("press-08 is deleted")
    assert hub.run("enroll", "create", "press-09", "--ca", "plant").status == 2


def test_a_group(hub: HubProcess) -> None:
    hub.ok("enroll", "create", "presses", "--group")
    keys = hub.run("enroll", "show", "presses", "--group", "--keys", "--json").json["attestation"]["symmetricKey"]
    for option, key in (((), keys["primaryKey"]), (("--secondary",), keys["secondaryKey"])):
        told = hub.ok("enroll", "derive-key", "presses", "press-10", *option).strip()
        assert b64decode(told) == derived_key(b64decode(key), "press-10")
    assert "presses" in hub.ok("enroll", "list", "--group")
    assert hub.run("enroll", "records", "presses", "--json").json == []


def test_the_service(hub: HubProcess) -> None:
    assert hub.ok("enroll", "scope").startswith("0ne")
    assert len(hub.ok("enroll", "scope").strip()) == 11
    assert len(hub.run("enroll", "hubs", "--json").json) == 1
    text = hub.ok("connection-string", "--provisioning").strip()
    assert "SharedAccessKeyName=provisioningserviceowner;" in text
    assert hub.run("connection-string", "--provisioning", "--events").status == 2
