"""Twins, direct methods and modules from the command line, against a hub that runs and a real device."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse

from cli.processes import HubProcess, hub_process, wait_until


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with hub_process(tmp_path_factory.mktemp("twins") / "hub") as process:
        yield process


@pytest.fixture
def device(hub: HubProcess) -> Iterator[Any]:
    """first-device, connected: it keeps desired patches, and answers ``echo`` and ``broken``."""
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.ok("connection-string", "--device", "first-device").strip(),
        server_verification_cert=(hub.data / "trust-bundle.pem").read_text(),
    )
    client.patches = []

    def answer(request: Any) -> None:
        if request.name != "silent":
            status = 500 if request.name == "broken" else 200
            client.send_method_response(MethodResponse.create_from_method_request(request, status, request.payload))

    client.connect()
    client.on_method_request_received = answer
    client.on_twin_desired_properties_patch_received = client.patches.append
    client.get_twin()
    yield client
    client.shutdown()


def test_the_twin(hub: HubProcess, device: Any) -> None:
    changed = hub.run(
        "device", "twin", "first-device", "--set", "desired.interval=5", "--set", "desired.fan.mode=auto",
        "--tag", "site=hall-3", "--json",
    ).json  # fmt: skip
    assert changed["tags"] == {"site": "hall-3"}
    assert changed["properties"]["desired"]["fan"]["mode"] == "auto"
    wait_until(lambda: bool(device.patches))
    assert device.patches == [{"interval": 5, "fan": {"mode": "auto"}, "$version": 2}]
    device.patch_twin_reported_properties({"fw": "1.2"})
    text = hub.ok("device", "twin", "first-device", "--set", "desired.interval=null")
    assert text.startswith("first-device  Connected  desired version 3, reported version 2\n")
    assert re.search(r"^desired\.fan\.mode +auto +20\d\d-", text, re.MULTILINE)
    assert re.search(r"^reported\.fw +1\.2 +20\d\d-", text, re.MULTILINE)
    assert "interval" not in text
    for wrong in ("interval=5", "reported.fw=1", "desired.=1", "desired=1", "desired.a"):
        refused = hub.run("device", "twin", "first-device", "--set", wrong)
        assert (refused.status, refused.out) == (2, ""), wrong
        assert "desired.interval=5" in refused.err
    refused = hub.run("device", "twin", "nobody")
    assert refused.status == 1
    assert "device list" in refused.err


def test_a_method(hub: HubProcess, device: Any) -> None:
    text = hub.ok("device", "call", "first-device", "echo", "--payload", '{"soft": true}', "--connect-timeout", "10")
    assert re.fullmatch(r'200 in \d+ ms\n\{"soft": true\}\n', text)
    answer = hub.run("device", "call", "first-device", "broken", "--json").json
    assert answer["status"] == 500
    assert answer["milliseconds"] > 0
    refused = hub.run("device", "call", "first-device", "echo", "--payload", "soft")
    assert refused.status == 2
    assert "not JSON" in refused.err
    silent = hub.run("device", "call", "first-device", "silent", "--timeout", "5")
    assert silent.status == 1
    assert "(504, GatewayTimeout)" in silent.err


def test_a_method_of_a_device_that_is_not_there(hub: HubProcess) -> None:
    hub.ok("device", "create", "away")
    refused = hub.run("device", "call", "away", "echo")
    assert refused.status == 1
    assert "(404, DeviceNotOnline)" in refused.err
    assert "--connect-timeout" in refused.err


def test_modules(hub: HubProcess) -> None:
    hub.ok("device", "create", "gateway")
    created = hub.ok("module", "create", "gateway", "vision", "--managed-by", "me")
    assert re.fullmatch(r"HostName=[^;]+;DeviceId=gateway;ModuleId=vision;SharedAccessKey=[^;]+\n", created)
    assert hub.ok("connection-string", "--device", "gateway", "--module", "vision") == created
    token = hub.ok("token", "make", "--device", "gateway", "--module", "vision")
    assert "devices%2Fgateway%2Fmodules%2Fvision" in token
    assert hub.run("token", "make", "--module", "vision").status == 2
    assert [each["moduleId"] for each in hub.run("module", "list", "gateway", "--json").json] == ["vision"]
    assert "vision" in hub.ok("module", "list", "gateway")
    shown = hub.ok("module", "show", "gateway", "vision")
    assert "gateway/vision" in shown
    assert "SharedAccessKey" not in shown
    twin = hub.run("device", "twin", "gateway", "--module", "vision", "--tag", "n=1", "--json").json
    assert (twin["moduleId"], twin["tags"]) == ("vision", {"n": 1})
    assert hub.ok("module", "delete", "gateway", "vision") == "gateway/vision is deleted\n"
    refused = hub.run("module", "show", "gateway", "vision")
    assert refused.status == 1
    assert "module list" in refused.err
