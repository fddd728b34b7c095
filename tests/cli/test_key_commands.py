"""Which keys are in use, and new ones in bulk, from the command line."""

import json
import re
import ssl
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.processes import HubProcess, hub_process


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("keys") / "hub") as process:
        yield process


def send(hub: HubProcess, device_id: str) -> None:
    """Telemetry with the device's primary key."""
    token = hub.ok("token", "make", "--device", device_id).strip()
    context = ssl.create_default_context(cafile=str(hub.data / "trust-bundle.pem"))
    port = hub.ready["https"].rpartition(":")[2] if ":" in hub.ready["https"].partition("://")[2] else "443"
    url = f"https://{hub.address}:{port}/devices/{device_id}/messages/events?api-version=2021-04-12"
    asked = urllib.request.Request(url, b"x", {"Authorization": token})
    with urllib.request.urlopen(asked, timeout=30, context=context) as answer:
        assert answer.status == 204


def test_keys_in_use_and_new_ones(hub: HubProcess, tmp_path: Path) -> None:
    for device_id in ("press-07", "press-08"):
        hub.ok("device", "create", device_id)
    assert "never used" in hub.ok("key", "show", "press-07")
    send(hub, "press-07")
    assert re.search(r"^primary +- .* 1 +.*TLSv1.3$", hub.ok("key", "show", "press-07"), re.MULTILINE)
    assert re.search(
        r"^last login by +primary, .* \(https TLSv1.3\) from ", hub.ok("device", "show", "press-07"), re.MULTILINE
    )
    assert "back end" in hub.ok("key", "show", "--policy", "iothubowner")
    waiting = hub.run("key", "progress", "--retire", "primary", "--where", "deviceId = 'press-07'")
    assert waiting.status == 1
    assert re.search(r"^would be shut out +1$", waiting.out, re.MULTILINE)
    refused = hub.run("key", "regenerate", "primary", "--device", "press-07")
    assert (refused.status, "within a day: press-07" in refused.err) == (1, True)
    new = tmp_path / "new-keys.jsonl"
    said = hub.ok("key", "regenerate", "secondary", "--device", "press-07", "--output", str(new))
    assert said == f"1 device has new keys, in {new}\n"
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert hub.ok("key", "regenerate", "secondary", "--all", "--output", str(new)).startswith("2 devices have new keys")
    written = [json.loads(line)["id"] for line in new.read_text().splitlines()]
    assert sorted(written) == ["first-device", "press-07", "press-08"]
    assert hub.run("key", "regenerate", "both", "--device", "press-07", "--force", "--json").json["rotated"] == 1
    assert hub.run("key", "regenerate", "both").status == 2
    assert hub.run("key", "regenerate", "primary", "--device", "nobody").status == 1
    assert hub.run("key", "show").status == 2
