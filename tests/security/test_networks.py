"""Networks that may and may not: of listeners before TLS, of policies at authentication, on live links as well."""

import http.client
import json
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import hub_process
from conversations.amqp_peer import AmqpPeer, events_token
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect
from hubkeep.model import Networks, parse_networks, why_shut_out
from hubkeep.settings import SettingsError
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

HERE, THERE = "127.0.0.1", "127.0.77.5"
PORTS = {"https": 443, "mqtt": 8883, "amqp": 5671}


def plain(hub: HubInThread, port: int, source: str) -> socket.socket:
    return socket.create_connection((hub.address, port), 10, source_address=(source, 0))


def from_(hub: HubInThread, port: int, source: str) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    return context.wrap_socket(plain(hub, port, source), server_hostname=hub.host_name)


def is_open(hub: HubInThread, port: int, source: str) -> bool:
    """Whether TLS is spoken; a listener that is closed ends the connection without a byte."""
    try:
        with from_(hub, port, source):
            return True
    except (ssl.SSLEOFError, ConnectionError):
        return False


def kept_from(hub: HubInThread, source: str) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    return http.client.HTTPSConnection(hub.host_name, 443, context=context, timeout=10, source_address=(source, 0))


def asked(hub: HubInThread, source: str, policy: str, path: str = f"/devices?{VERSION}") -> int:
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    connection = http.client.HTTPSConnection(
        hub.host_name, 443, context=context, timeout=10, source_address=(source, 0)
    )
    try:
        connection.request("GET", path, headers={"Authorization": hub.token(policy=policy)})
        return connection.getresponse().status
    finally:
        connection.close()


def make(hub: HubInThread, name: str, rights: str, **networks: list[str]) -> None:
    body = {"rights": rights, "networks": {"allow": [], "deny": [], **networks}}
    answer = request(hub, "PUT", f"/api/policies/{name}", body)
    assert answer.status == 200, answer.body


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    networks: dict[str, Any] = {"mqtt": {"allow": ["127.0.0.0/8"], "deny": ["127.0.77.0/24"]}}
    networks["amqp"] = {"allow": [HERE, "::1"]}
    with HubInThread(listeners={"networks": networks}) as hub:
        yield hub


@pytest.mark.parametrize(
    ("allow", "deny", "address", "expected"),
    [
        ([], [], "203.0.113.9", ""),
        ([], ["203.0.113.0/24"], "203.0.113.9", "203.0.113.0/24 is denied"),
        (["203.0.113.9"], ["203.0.113.0/24"], "203.0.113.9", "203.0.113.0/24 is denied"),
        (["203.0.113.0/24"], [], "203.0.114.9", "only 203.0.113.0/24 is allowed"),
        (["2001:db8::/32"], [], "2001:db8::7", ""),
        (["2001:db8::/32"], [], "2001:db9::7", "only 2001:db8::/32 is allowed"),
        (["203.0.113.0/24"], [], "::ffff:203.0.113.9", ""),
        ([], ["::ffff:203.0.113.0/120"], "203.0.113.9", "203.0.113.0/24 is denied"),
        ([], ["fe80::/10"], "fe80::1%eth0", "fe80::/10 is denied"),
        ([], ["10.0.0.0/8"], "", "a peer has no address to judge by"),
    ],
)
def test_denying_wins_and_allowing_closes_the_rest(
    allow: list[str], deny: list[str], address: str, expected: str
) -> None:
    networks = Networks(allow=parse_networks(tuple(allow)), deny=parse_networks(tuple(deny)))
    assert why_shut_out(networks, address) == expected


@pytest.mark.explains("listener-network")
def test_a_listener_closes_before_tls_and_tells_the_operator_why(hub: HubInThread) -> None:
    open_to = {(kind, source): is_open(hub, port, source) for kind, port in PORTS.items() for source in (HERE, THERE)}
    assert [each for each, is_so in open_to.items() if not is_so] == [("mqtt", THERE), ("amqp", THERE)]
    for _ in range(20):
        with plain(hub, 8883, THERE) as knocking:
            assert knocking.recv(1) == b""
    closed = [each for each in hub.refusals("", 100) if each.operation == "connect"]
    assert sorted(each.surface for each in closed) == ["amqp", "mqtt"], "who knocks on and on fills no record"
    mqtt = next(each for each in closed if each.surface == "mqtt")
    assert mqtt.peer.startswith(f"{THERE}:")
    assert mqtt.reason == f"the listener of mqtt is closed to {THERE}: 127.0.77.0/24 is denied"
    assert mqtt.remedy == "listeners.networks.mqtt in the settings"
    assert next(each for each in closed if each.surface == "amqp").reason.endswith("only 127.0.0.1, ::1 are allowed")


def test_a_start_that_shuts_out_the_machines_own_operator_is_refused_unless_told_to() -> None:
    shut = {"networks": {"https": {"deny": ["127.0.0.0/8"]}}}
    with pytest.raises(SettingsError, match=r"come from 127\.0\.0\.1, and 127\.0\.0\.0/8 is denied; allow it"):
        HubInThread(listeners=shut).__enter__()
    with HubInThread(listeners={**shut, "shut_out_operator": True}) as hub:
        assert not is_open(hub, 443, HERE)
        assert is_open(hub, 8883, HERE)


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "10.0.0.0/33", "press-07", "fe80::1%eth0"])
def test_what_is_no_network_is_refused(hub: HubInThread, wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"listeners\.networks\.mqtt"):
        HubInThread(listeners={"networks": {"mqtt": {"allow": [wrong]}}})
    body = {"rights": "RegistryRead", "networks": {"deny": [wrong]}}
    answer = request(hub, "PUT", "/api/policies/wrong", body)
    assert (answer.status, wrong.partition("%")[0] in str(answer.body)) == (400, True)
    assert request(hub, "GET", "/api/policies/wrong").status == 404
    many = {"rights": "RegistryRead", "networks": {"allow": [f"10.0.{each}.0/24" for each in range(101)]}}
    assert request(hub, "PUT", "/api/policies/wrong", many).status == 400


def test_a_policy_opens_nothing_from_where_it_may_not_be_used() -> None:
    with HubInThread() as hub:
        make(hub, "bound", "RegistryRead,ServiceConnect,DeviceConnect", allow=[HERE], deny=[])
        hub.create_device("press-07")
        key = sas.parse_connection_string(hub.policy_connection_string("bound")).key
        name, text = f"bound@sas.root.{hub.host_name}", b64encode(key).decode()
        user = USER_NAME.format(host=hub.host_name, client_id="press-07")
        ways = {}
        for source in (HERE, THERE):
            ways["https", source] = asked(hub, source, "bound") == 200
            with MqttPeer(hub, from_(hub, 8883, source)) as mqtt:
                mqtt.send(connect("press-07", user, hub.token(policy="bound")))
                ways["mqtt", source] = mqtt.read() == (0x20, b"\0\0")
            for way, credential in (
                ("token", f"\0{name}\0{hub.token(policy='bound')}"),
                ("key text", f"\0bound\0{text}"),
            ):
                with AmqpPeer(hub, from_(hub, 5671, source)) as amqp:
                    ways[way, source] = amqp.sasl("PLAIN", credential.encode()) == 0
            with AmqpPeer(hub, from_(hub, 5671, source)) as amqp:
                amqp.opened().node()
                ways["cbs", source] = amqp.put_token(events_token(hub, "bound")).status == 200
        assert {source for (_, source), is_let_in in ways.items() if is_let_in} == {HERE}, ways
        assert len([each for each in ways.values() if each]) == 5, ways
        told = [each for each in hub.refusals("policy bound", 50) if "may not be used" in each.reason]
        assert told[0].reason == f"policy 'bound' may not be used from {THERE}: only {HERE} is allowed"
        assert told[0].remedy == "hubkeep policy networks bound"


def test_live_links_of_a_policy_are_cut_within_a_second_of_a_rule() -> None:
    with HubInThread() as hub:
        make(hub, "far", "RegistryWrite,ServiceConnect,DeviceConnect")
        hub.create_device("press-07")
        user = USER_NAME.format(host=hub.host_name, client_id="press-07")
        context = ssl.create_default_context(cafile=str(hub.trust_bundle))
        kept = kept_from(hub, THERE)
        token = hub.token(policy="far")
        stream = urllib.request.Request(f"https://{hub.host_name}/api/events", headers={"Authorization": token})
        with (
            MqttPeer(hub, from_(hub, 8883, THERE)) as mqtt,
            AmqpPeer(hub, from_(hub, 5671, THERE)) as amqp,
            urllib.request.urlopen(stream, timeout=30, context=context) as events,
        ):
            mqtt.send(connect("press-07", user, hub.token(policy="far")))
            assert mqtt.read() == (0x20, b"\0\0")
            amqp.opened().authorised(events_token(hub, "far"))
            kept.request("GET", f"/devices?{VERSION}", headers={"Authorization": token})
            answer = kept.getresponse()
            assert (answer.status, answer.read()[:1]) == (200, b"[")
            assert events.readline() == b"\n"
            make(hub, "far", "RegistryWrite,ServiceConnect,DeviceConnect", deny=["127.0.0.0/8"])
            cut = time.monotonic()
            assert mqtt.is_closed()
            assert amqp.closes()
            kept.request("GET", f"/devices?{VERSION}", headers={"Authorization": token})
            assert kept.getresponse().status == 401
            assert b"expired" in events.readline()
            took = time.monotonic() - cut
        kept.close()
        assert took < 5, "by the clock it is one on a machine of its own"
        make(hub, "far", "RegistryWrite,ServiceConnect,DeviceConnect", allow=[THERE])
        assert [asked(hub, source, "far") for source in (HERE, THERE)] == [401, 200]


def test_an_operator_shuts_himself_out_only_if_he_says_so_and_the_settings_let_him_in_again(tmp_path: Path) -> None:
    owner = f"/api/policies/iothubowner?{VERSION}"
    rights = "RegistryWrite, ServiceConnect, DeviceConnect"
    body = {"rights": rights, "networks": {"allow": ["192.0.2.0/24"]}}
    with HubInThread(data=tmp_path / "data") as hub:
        answer = request(hub, "PUT", owner, body)
        assert (answer.status, "This would shut out you" in str(answer.body)) == (400, True)
        assert request(hub, "GET", owner).body["networks"] == {"allow": [], "deny": []}
        assert request(hub, "PUT", owner, {**body, "shutMeOut": True}).status == 200
        assert request(hub, "GET", owner).status == 401
        key = request(hub, "POST", "/api/policies/iothubowner/regenerate", {"policyKeyType": "secondary"})
        assert key.status == 401
    with HubInThread(data=tmp_path / "data") as hub:
        assert request(hub, "GET", owner).status == 401, "rules are as they were after a restart"
    with HubInThread(data=tmp_path / "data", policy_networks=False) as hub:
        regenerated = request(hub, "POST", "/api/policies/iothubowner/regenerate", {"policyKeyType": "secondary"})
        assert regenerated.body["networks"]["allow"] == ["192.0.2.0/24"], "a new key leaves them"
        assert request(hub, "PUT", owner, {"rights": rights}).body["networks"]["allow"] == ["192.0.2.0/24"]
        assert request(hub, "PUT", owner, {"rights": rights, "networks": {}}).status == 200
    with HubInThread(data=tmp_path / "data") as hub:
        assert request(hub, "GET", owner).status == 200


def test_networks_on_the_command_line(tmp_path: Path) -> None:
    with hub_process(tmp_path / "data", mode="serve") as hub:
        hub.ok("policy", "create", "plant", "--rights", "RegistryRead")
        said = hub.ok("policy", "networks", "plant", "--allow", "10.2.0.0/16", "--deny", "10.2.9.0/24")
        assert said.strip() == "plant may be used from 10.2.0.0/16, but not from 10.2.9.0/24"
        assert json.loads(hub.ok("policy", "networks", "plant", "--json")) == {
            "allow": ["10.2.0.0/16"],
            "deny": ["10.2.9.0/24"],
        }
        assert "10.2.0.0/16, but not from 10.2.9.0/24" in hub.ok("policy", "show", "plant")
        assert hub.ok("policy", "networks", "plant", "--everywhere").strip() == "plant may be used from everywhere"
        refused = hub.run("policy", "networks", "iothubowner", "--deny", "127.0.0.0/8")
        assert (refused.status, "shut out you" in refused.err) == (1, True)
        assert hub.run("policy", "networks", "plant", "--deny", "10.0.0.0/8", "--everywhere").status == 2
