"""Unmodified clients with a token credential, and people at the command line, by a real OpenID Connect provider."""

import json
import re
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from azure.eventhub import EventHubConsumerClient

from browser import Browser
from cli.processes import command, started
from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread
from hubkeep.testing.hub_in_thread import free_address
from sign_in import EVENT_HUBS, HUB, Provider, provider_process

hub_client = pytest.importorskip("azure.iot.hub", reason="azure-iot-hub is not installed")
msrest = pytest.importorskip("msrest.exceptions")

DEVICE = "press-07"


@pytest.fixture(scope="module")
def address() -> str:
    """Of the hub: the provider must know where it sends browsers back to."""
    return free_address((443, 8883, 5671))


@pytest.fixture(scope="module")
def provider(address: str) -> Iterator[Provider]:
    with provider_process(f"https://{address}/auth/callback") as process:
        yield process


@pytest.fixture(scope="module")
def hub(provider: Provider, address: str) -> Iterator[HubInThread]:
    roles = [
        {"role": "reader", "claim": "sub", "value": "dashboards"},
        {"role": "contributor", "claim": "sub", "value": "importer"},
        {"role": "contributor", "claim": "groups", "value": "ops", "devices": f"deviceId = '{DEVICE}'"},
        {"role": "administrator", "claim": "groups", "value": "admins"},
    ]
    people = provider.settings(roles=roles, audiences=[HUB, EVENT_HUBS])
    with HubInThread(address=address, people=people, events={"partitions": 1}) as hub, hub.trusted():
        hub.create_device(DEVICE)
        yield hub


class AccessToken(NamedTuple):
    token: str
    expires_on: int


class Credential:
    """As azure.core wants one: a program's own, by its secret. asked: the scopes that clients ask for."""

    def __init__(self, provider: Provider, client: str, resource: str = HUB) -> None:
        self._provider, self._client, self._resource = provider, client, resource
        self.asked: list[str] = []

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += scopes
        return AccessToken(self._provider.token(self._client, self._resource), int(time.time()) + 3600)


@pytest.mark.spec("S-16")
def test_the_python_registry_client_reads_as_a_reader_and_writes_nothing(hub: HubInThread, provider: Provider) -> None:
    credential = Credential(provider, "dashboards")
    registry = hub_client.IoTHubRegistryManager.from_token_credential(hub.host_name, credential)
    device = registry.get_device(DEVICE)
    assert device.device_id == DEVICE
    assert registry.get_twin(DEVICE).device_id == DEVICE
    with pytest.raises(msrest.HttpOperationError) as failed:
        registry.update_device_with_sas(DEVICE, device.etag, "", "", "disabled")
    assert failed.value.response.status_code == 401
    assert set(credential.asked) == {"https://iothubs.azure.net/.default"}
    stranger = hub_client.IoTHubRegistryManager.from_token_credential(hub.host_name, Credential(provider, "stranger"))
    with pytest.raises(msrest.HttpOperationError):
        stranger.get_device(DEVICE)


def test_the_python_clients_write_and_send_as_a_contributor(hub: HubInThread, provider: Provider) -> None:
    credential = Credential(provider, "importer")
    registry = hub_client.IoTHubRegistryManager.from_token_credential(hub.host_name, credential)
    made = registry.create_device_with_sas("made", "", "", "enabled")
    assert made.device_id == "made"
    registry.send_c2d_message("made", "stop")
    assert request(hub, "GET", "/api/devices/made/messages").body["waiting"]
    jobs = hub_client.IoTHubJobManager.from_token_credential(hub.host_name, credential)
    assert jobs.get_import_export_jobs() == []
    twins = hub_client.DigitalTwinClient.from_token_credential(hub.host_name, credential)
    assert twins.get_digital_twin("made")["$dtId"] == "made"
    registry.delete_device("made")


def test_the_python_event_client_reads_with_a_credential(hub: HubInThread, provider: Provider) -> None:
    assert request(hub, "POST", f"/devices/{DEVICE}/messages/events?{VERSION}", b"m", policy="device").status == 204
    credential: Any = Credential(provider, "dashboards", EVENT_HUBS)
    client = EventHubConsumerClient(hub.host_name, "hubkeep-events", "$Default", credential, retry_total=0)
    got: list[str] = []

    def on_event(_: Any, event: Any) -> None:
        got.append(event.body_as_str())
        client.close()

    with client:
        assert client.get_partition_ids() == ["0"]
        client.receive(on_event, starting_position="-1", partition_id="0")
    assert got[0] == "m"
    assert "https://eventhubs.azure.net//.default" in credential.asked


def test_the_node_clients_read_and_send_with_a_credential(hub: HubInThread, provider: Provider, node: Any) -> None:
    result = node("people.js", hub.host_name, provider.token("importer"), DEVICE)
    assert (result["got"], result["twin"]) == (DEVICE, DEVICE)
    assert result["scopes"] == ["https://iothubs.azure.net/.default"]
    assert result["refused"] == "DeviceNotFoundError"
    messages = request(hub, "GET", f"/api/devices/{DEVICE}/messages").body["waiting"]
    assert messages


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, hub: HubInThread) -> dict[str, str]:
    """Of somebody who has never signed in, in a folder without a hub."""
    return {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "HUBKEEP_DATA": str(tmp_path / "no-hub"),
        "HUBKEEP_TRUST_BUNDLE": str(hub.trust_bundle),
    }


def sign_in(hub: HubInThread, home: dict[str, str], name: str) -> str:
    """What hubkeep login prints; the person agrees in a browser."""
    with started("login", hub.host_name, **home) as process:
        assert process.stderr is not None
        shown = process.stderr.readline() + process.stderr.readline()
        code = re.search(r"enter (\S+)", shown)
        assert code is not None, shown
        page = Browser().signed_in(shown.split()[-1], name)
        assert not page.forms, page.text
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        return out


def test_somebody_signs_in_at_the_command_line_and_out_again(hub: HubInThread, home: dict[str, str]) -> None:
    assert sign_in(hub, home, "ann-at-ops") == (
        f"signed in to {hub.host_name} as ann-at-ops: contributor where deviceId = '{DEVICE}'\n"
    )
    file = Path(home["XDG_CONFIG_HOME"]) / "hubkeep" / "login.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    me = command("whoami", "--json", **home).json
    assert (me["kind"], me["name"], [each["role"] for each in me["roles"]]) == ("person", "ann-at-ops", ["contributor"])
    assert command("device", "list", "--json", **home).json[0]["deviceId"] == DEVICE
    assert command("device", "twin", DEVICE, "--tag", "hall=3", **home).status == 0
    refused = command("device", "show", "other", **home)
    assert refused.status == 1
    assert "IotHubUnauthorizedAccess" in refused.err
    # where the hub's own data directory lies, whoever signed in to that hub still asks as themselves
    here = {**home, "HUBKEEP_DATA": str(hub.data)}
    assert command("whoami", "--json", **here).json["name"] == "ann-at-ops"
    assert command("whoami", "--json", **{**here, "XDG_CONFIG_HOME": "/nowhere"}).json["name"] == "iothubowner"
    # a connection string is stronger
    named = {**home, "HUBKEEP_CONNECTION_STRING": hub.connection_string}
    assert command("whoami", "--json", **named).json["kind"] == "policy"
    # what is about to end is renewed, and kept
    login = json.loads(file.read_text())
    file.write_text(json.dumps({**login, "access_token": "old", "expires": time.time() + 5}))
    file.chmod(0o600)
    assert command("whoami", "--json", **home).json["name"] == "ann-at-ops"
    renewed = json.loads(file.read_text())
    assert renewed["access_token"] not in {"old", login["access_token"]}
    assert renewed["refresh_token"] != login["refresh_token"]
    file.chmod(0o640)
    assert "can be read by others" in command("whoami", **home).err
    assert command("logout", **home).out == "signed out\n"
    assert not file.exists()
    assert "hubkeep login HUB" in command("whoami", **home).err


def test_an_administrator_gives_roles_at_the_command_line(
    hub: HubInThread, provider: Provider, home: dict[str, str]
) -> None:
    file = Path(home["XDG_CONFIG_HOME"]) / "hubkeep" / "login.json"
    file.parent.mkdir(parents=True)
    file.touch(0o600)
    token = provider.signed(sub="cleo-at-admins", groups=["admins"])
    login = {"hub": hub.host_name, "trust_bundle": str(hub.trust_bundle), "access_token": token}
    file.write_text(json.dumps({**login, "address": "", "provider": {}, "refresh_token": "", "expires": 2e9}))
    made = command("access", "role", "assign", "lead", "--role", "reader", "--claim", "groups=ops", **home)
    assert made.out == "groups=ops is reader\n"
    limited = command(
        "access", "role", "assign", "line", "--role", "reader", "--person", "x", "--where", "tags.hall = 3", **home
    )
    assert limited.out == "sub=x is reader where tags.hall = 3\n"
    listed = command("access", "role", "list", "--json", **home).json
    assert {each["name"]: each["createdBy"] for each in listed if not each["isFixed"]} == {
        "lead": "person cleo-at-admins",
        "line": "person cleo-at-admins",
    }
    for name in ("lead", "line"):
        assert command("access", "role", "remove", name, **home).out == f"{name} is removed\n"
    assert command("access", "role", "assign", "x", "--role", "reader", **home).status == 2
    assert command("access", "role", "remove", "x", **home).status == 1


# -- a browser ---------------------------------------------------------------------------------------------------------


def browser_of(hub: HubInThread) -> Browser:
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    return Browser(urllib.request.HTTPSHandler(context=context))


def status_of(browser: Browser, url: str, form: dict[str, str] | None = None) -> int:
    with pytest.raises(urllib.error.HTTPError) as refused:
        browser.open(url, form)
    with refused.value:
        return refused.value.code


def test_somebody_signs_in_with_a_browser_and_out_again(hub: HubInThread) -> None:
    home, browser = f"https://{hub.host_name}/auth", browser_of(hub)
    assert "Sign in" in browser.open(home).text
    page = browser.signed_in(f"{home}/login", "ann-at-ops", stops_at=home)
    assert page.url == home
    assert "<h1>ann-at-ops</h1>" in page.text
    assert f"contributor where deviceId = &#x27;{DEVICE}&#x27;" in page.text
    session = next(each for each in browser.cookies if each.name == "__Host-hubkeep-session")
    assert session.secure
    assert session.has_nonstandard_attr("HttpOnly")
    assert session.get_nonstandard_attr("SameSite") == "Lax"
    # the cookie opens the page alone
    assert status_of(browser, f"https://{hub.host_name}/api/self") == 401
    # and another site can end nothing
    assert status_of(browser, f"{home}/logout", {}) == 400
    browser.add_header("Origin", "https://evil.example")
    assert status_of(browser, f"{home}/logout", {}) == 400
    assert "<h1>ann-at-ops</h1>" in browser.open(home).text
    browser.add_header("Origin", f"https://{hub.host_name}")
    assert "Sign in" in browser.submit(browser.open(home)).text
    assert "Sign in" in browser.open(home).text


@pytest.mark.explains("sign-in-not-begun", "sign-in-refused")
def test_what_comes_back_must_be_what_this_browser_began(hub: HubInThread) -> None:
    home = f"https://{hub.host_name}/auth"
    # somebody who has a victim's browser open the end of a sign-in of their own
    attacker = browser_of(hub)
    back = attacker.last_step(f"{home}/login", "eve", f"{home}/callback")
    assert status_of(browser_of(hub), back) == 400
    assert hub.refusals(most=1)[0].cause == "sign-in-not-begun"
    # used up by that
    assert status_of(attacker, back) == 400
    again = attacker.last_step(f"{home}/login", "eve", f"{home}/callback")
    assert status_of(attacker, re.sub(r"code=[^&]*", "code=made-up", again)) == 401
    assert hub.refusals(most=1)[0].cause == "sign-in-refused"
    other = attacker.last_step(f"{home}/login", "eve", f"{home}/callback")
    assert status_of(attacker, re.sub(r"iss=[^&]*", "iss=https%3A%2F%2Fevil.example", other)) == 401
    assert hub.refusals(most=1)[0].cause == "sign-in-refused"
    assert status_of(attacker, f"{home}/callback?code=x&state=x") == 400
    assert "Sign in" in attacker.open(home).text
