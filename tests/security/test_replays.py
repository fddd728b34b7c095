"""A token is taken from wherever it comes, and the operator sees that it came from elsewhere (L-I5)."""

import http.client
import json
import socket
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from conversations.amqp_peer import AmqpPeer, device_token
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect
from hubkeep.testing import HubInThread

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.77"


def tls_from(hub: HubInThread, source: str, port: int) -> ssl.SSLSocket:
    """From another address of the loopback network."""
    context = ssl.create_default_context(cafile=str(hub.trust_bundle))
    raw = socket.create_connection((hub.address, port), 10, (source, 0))
    return context.wrap_socket(raw, server_hostname=hub.host_name)


def by_mqtt(hub: HubInThread, source: str, token: str) -> None:
    with MqttPeer(hub, tls_from(hub, source, 8883)) as peer:
        peer.send(connect("pump", USER_NAME.format(host=hub.host_name, client_id="pump"), token))
        assert peer.read() == (0x20, b"\0\0")


def by_amqp(hub: HubInThread, source: str, token: str) -> None:
    with AmqpPeer(hub, tls_from(hub, source, 5671)).opened() as peer:
        peer.authorised(token)


def by_https(hub: HubInThread, source: str, token: str) -> None:
    with tls_from(hub, source, 443) as sock:
        head = f"GET /devices/pump/messages/devicebound HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n"
        sock.sendall(head.encode())
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 204


def replays(hub: HubInThread, identity: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request(hub, "GET", f"/api/replays?identity={identity}").body
    return found


@pytest.mark.spec("L-I5", "P-T03")
@pytest.mark.parametrize("by", [by_mqtt, by_amqp, by_https], ids=["mqtt", "amqp", "https"])
def test_a_token_from_a_second_address_is_taken_and_listed(by: Any) -> None:
    with HubInThread() as hub:
        token = device_token(hub, "pump")
        by(hub, HERE, token)
        by(hub, HERE, token)
        assert replays(hub, "pump") == []
        by(hub, ELSEWHERE, token)
        by(hub, ELSEWHERE, token)
        (seen,) = replays(hub, "pump")
        assert (seen["identity"], seen["key"], seen["surface"]) == ("pump", "primary", by.__name__.removeprefix("by_"))
        assert (seen["first_address"], seen["address"]) == (HERE, ELSEWHERE)
        assert token not in json.dumps(seen)
        by(hub, ELSEWHERE, device_token(hub, "pump", seconds=1800))  # another token of the same key
        assert len(replays(hub, "pump")) == 1


def test_the_list_outlives_the_hub(tmp_path: Path) -> None:
    with HubInThread(tmp_path / "data") as hub:
        token = device_token(hub, "pump")
        by_mqtt(hub, HERE, token)
        by_mqtt(hub, ELSEWHERE, token)
    with HubInThread(tmp_path / "data") as hub:
        assert [each["address"] for each in replays(hub)] == [ELSEWHERE]


def test_what_is_remembered_of_tokens_is_bounded() -> None:
    with HubInThread(limits={"tokens_watched": 5, "replays_kept": 1}) as hub:
        tokens = [device_token(hub, "pump", seconds=1000 + number) for number in range(20)]
        for token in tokens:
            by_https(hub, HERE, token)
        by_https(hub, ELSEWHERE, tokens[0])  # forgotten: it is new again
        assert replays(hub) == []
        for token in tokens[-2:]:
            by_https(hub, ELSEWHERE, token)
        assert len(replays(hub)) == 1


def test_accepted_logins_are_counted(shared_hub: HubInThread) -> None:
    by_mqtt(shared_hub, HERE, device_token(shared_hub, "pump"))
    assert request(shared_hub, "GET", f"/devices?{VERSION}").status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{shared_hub.hub.ports['metrics']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'hubkeep_logins_total{surface="mqtt"}' in text
    assert 'hubkeep_logins_total{surface="https"}' in text
