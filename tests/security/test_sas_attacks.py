"""Forged, twisted and replayed tokens, guessing, dead credentials: refused, explained, and nobody else disturbed."""

import ast
import contextlib
import http.client
import inspect
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import pytest

from conversations.amqp_peer import AmqpPeer, condition, device_key, device_token, events_token
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from conversations.websocket_pipe import WebSocketPipe
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp.performatives import Detach
from security.test_admission import dialled, is_turned_away, secured

FAR: Final = 4_000_000_000
REFUSED: Final = {(0x20, b"\0\5"), None}
VICTIM, THIEF = "victim-07", "thief-08"


class Keys:
    """What an attacker may have: a key of their own, an old token, and all names."""

    def __init__(self, hub: HubInThread) -> None:
        self.host = hub.host_name
        self.own, self.victims = device_key(hub, THIEF), device_key(hub, VICTIM)

    def signed(self, sr: str, se: object = FAR, *, key: bytes | None = None, policy: str = "") -> str:
        """A token over exactly this text."""
        signature = quote(b64encode(sas.signature(sr, str(se), key or self.own)).decode(), safe="")
        return f"SharedAccessSignature sr={sr}&sig={signature}&se={se}" + (f"&skn={policy}" if policy else "")


Attack = Callable[[Keys], str]
PATHS: Final[dict[str, Attack]] = {
    "own token": lambda keys: keys.signed(f"{keys.host}/devices/{THIEF}"),
    "own key, the victim's path": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}"),
    "up and down again": lambda keys: keys.signed(f"{keys.host}/devices/{THIEF}/../{VICTIM}"),
    "the same, encoded": lambda keys: keys.signed(quote(f"{keys.host}/devices/{THIEF}/../{VICTIM}", safe="")),
    "the same, encoded twice": lambda keys: keys.signed(
        quote(quote(f"{keys.host}/devices/{THIEF}/../{VICTIM}", safe=""), safe="")
    ),
    "both paths": lambda keys: keys.signed(f"{keys.host}/devices/{THIEF}/devices/{VICTIM}"),
    "an empty segment": lambda keys: keys.signed(f"{keys.host}//devices/{VICTIM}"),
    "a pattern": lambda keys: keys.signed(f"{keys.host}/devices/*"),
    "all devices": lambda keys: keys.signed(f"{keys.host}/devices"),
    "the hub": lambda keys: keys.signed(keys.host),
    "a backslash": lambda keys: keys.signed(f"{keys.host}\\devices\\{VICTIM}"),
    "NUL behind the id": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}%00"),
    "a query behind the id": lambda keys: keys.signed(f"{keys.host}/devices/{THIEF}?/devices/{VICTIM}"),
    "letters of another alphabet": lambda keys: keys.signed(f"{keys.host}/devices/v\u0456ctim-07"),
    "another case": lambda keys: keys.signed(f"{keys.host}/DEVICES/{VICTIM.upper()}"),
    "another hub": lambda keys: keys.signed(f"other.example.net/devices/{VICTIM}", key=keys.victims),
    "the hub's name as user": lambda keys: keys.signed(
        f"{keys.host}@other.example.net/devices/{VICTIM}", key=keys.victims
    ),
    "a longer name of the hub": lambda keys: keys.signed(f"{keys.host}.evil.net/devices/{VICTIM}", key=keys.victims),
    "of a module of the victim": lambda keys: keys.signed(
        f"{keys.host}/devices/{VICTIM}/modules/cam", key=keys.victims
    ),
    "a prefix of the id": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM[:-1]}", key=keys.victims),
    "more than the id": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}0", key=keys.victims),
}
FIELDS: Final[dict[str, Attack]] = {
    "two resources": lambda keys: keys.signed(f"{keys.host}/devices/{THIEF}") + f"&sr={keys.host}/devices/{VICTIM}",
    "two expiries": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}", 1, key=keys.victims) + f"&se={FAR}",
    "two signatures": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}") + "&sig=AAAA",
    "a policy of no key": lambda keys: keys.signed(keys.host, policy="iothubowner"),
    "a policy of no name": lambda keys: keys.signed(keys.host, policy="\0"),
    "an expiry moved by hand": lambda keys: keys.signed(
        f"{keys.host}/devices/{VICTIM}", 1_500_000_000, key=keys.victims
    ).replace("se=1500000000", f"se={FAR}"),
    "a signature cut short": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}", key=keys.victims).replace(
        "%3D&se", "&se"
    ),
    "an empty signature": lambda keys: f"SharedAccessSignature sr={keys.host}/devices/{VICTIM}&sig=&se={FAR}",
    "the signature in hexadecimal": lambda keys: (
        f"SharedAccessSignature sr={keys.host}/devices/{VICTIM}&se={FAR}&sig="
        + sas.signature(f"{keys.host}/devices/{VICTIM}", str(FAR), keys.victims).hex()
    ),
    "signed with the key's text": lambda keys: keys.signed(
        f"{keys.host}/devices/{VICTIM}", key=sas.key_text(keys.victims)
    ),
    "signed with nothing": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}", key=b"\0"),
    "a token of 5,000 characters": lambda keys: keys.signed(f"{keys.host}/devices/{VICTIM}/{'x' * 5000}"),
}
# With the victim's own key: what is no time is refused, however it was signed.
EXPIRIES: Final = {
    "of thirty digits": "9" * 30,
    "of a thousand digits": "9" * 1000,
    "before the beginning": "-1",
    "a fraction": "4000000000.5",
    "an exponent": "4e9",
    "hexadecimal": "0xEE6B2800",
    "with blanks": "4000000000 ",
    "in digits of another script": "\u0664\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660",
    "with separators": "4_000_000_000",
    "past": "1500000000",
    "nought": "0",
}
ATTACKS: Final[dict[str, Attack]] = {
    **PATHS,
    **FIELDS,
    **{
        f"an expiry {name}": lambda keys, se=se: keys.signed(  # type: ignore[misc]  # bound now
            f"{keys.host}/devices/{VICTIM}", se, key=keys.victims
        )
        for name, se in EXPIRIES.items()
    },
}


@pytest.fixture(scope="module")
def live(shared_hub: HubInThread) -> Iterator[MqttPeer]:
    """The victim is connected all the time, by its own key."""
    with MqttPeer.logged_in(shared_hub, VICTIM) as peer:
        yield peer


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_or_twisted_token_opens_nothing_on_any_wire(
    shared_hub: HubInThread, live: MqttPeer, attack: str
) -> None:
    hub, token = shared_hub, ATTACKS[attack](Keys(shared_hub))
    with MqttPeer(hub) as peer:
        peer.send(connect(VICTIM, USER_NAME.format(host=hub.host_name, client_id=VICTIM), token))
        assert peer.read() in REFUSED
    path = f"/devices/{VICTIM}/messages/events?{VERSION}"
    if token.isascii() and token.isprintable():  # what a header may hold
        assert request(hub, "POST", path, b"x", token=token).status in {401, 400, 431}
    with AmqpPeer(hub).opened() as amqp:
        amqp.node()
        amqp.put_token(token)  # it may be good for the thief's own device, never for the victim's link
        assert condition(amqp.refused(f"/devices/{VICTIM}/messages/events", handle=0)) == "amqp:unauthorized-access"
    refusal = hub.refusals(VICTIM, 1)[0]
    assert refusal.cause.startswith(("token-", "policy-", "identity-")), refusal
    assert refusal.remedy
    assert "sig=" not in str(refusal)
    assert live.is_open(), "its own connection knows nothing of all this"


def test_a_token_is_replayed_on_its_own_resource_alone(shared_hub: HubInThread) -> None:
    hub = shared_hub
    stolen = device_token(hub, VICTIM)
    for method, path in (
        ("GET", f"/devices/{VICTIM}"),
        ("GET", f"/twins/{VICTIM}"),
        ("POST", f"/devices/{VICTIM}/messages/devicebound"),
        ("POST", f"/devices/{THIEF}/messages/events"),
        ("GET", "/api/policies"),
        ("POST", "/devices/query"),
    ):
        assert request(hub, method, f"{path}?{VERSION}", b"{}", token=stolen).status == 401, path
    with AmqpPeer(hub).opened().authorised(stolen) as peer:
        for handle, (address, receiver) in enumerate(
            (
                ("/messages/devicebound", False),
                ("/messages/serviceBound/feedback", True),
                ("hubkeep-events/ConsumerGroups/$Default/Partitions/0", True),
                (f"/devices/{THIEF}/messages/events", False),
            )
        ):
            assert peer.refused(address, handle=handle, receiver=receiver)


def test_signatures_are_compared_in_a_time_that_tells_nothing() -> None:
    """No time is measured: what compares is ``compare_digest``, and both keys are always tried."""
    tree = ast.parse(inspect.getsource(sas.is_signed_by))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert calls == {"hmac.compare_digest", "signature"}
    assert not any(isinstance(node, ast.Compare) for node in ast.walk(tree))
    for path in Path(inspect.getfile(sas)).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if "signature" in path.read_text() else ():
            if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
                text = ast.unparse(node)
                assert ".signature ==" not in text, f"{path.name}: {text}"
                assert "sas.signature(" not in text, f"{path.name}: {text}"


@pytest.mark.spec("L-L8")
@pytest.mark.explains("source-locked-out", "pair-locked-out")
def test_guessing_is_locked_out_and_explained_and_disturbs_nobody() -> None:
    guesser, honest = "127.77.1.5", "127.77.1.6"
    with HubInThread(listeners={"count_loopback": True}) as hub:
        good, wrong = device_token(hub, VICTIM), hub.token(f"devices/{VICTIM}", key=b"w" * 32)

        def log_in(source: str, token: str, device: str = VICTIM) -> Any:
            with MqttPeer(hub, secured(hub, dialled(hub, source))) as peer:
                peer.send(connect(device, USER_NAME.format(host=hub.host_name, client_id=device), token))
                return peer.read()

        with MqttPeer.logged_in(hub, "bystander") as other, MqttPeer.logged_in(hub, VICTIM) as victim:
            answers = [log_in(guesser, wrong) for _ in range(11)]
            assert set(answers) == {(0x20, b"\0\5")}
            assert hub.refusals(VICTIM, 1)[0].cause == "pair-locked-out"
            names = [f"guess-{number}" for number in range(10)]  # a spray over many names, one guess each
            assert {log_in(guesser, wrong, name) for name in names} == {(0x20, b"\0\5")}
            for port in (8883, 5671, 443):
                with dialled(hub, guesser, port) as raw:
                    assert is_turned_away(raw)
            told = [each for each in hub.refusals("", 100) if each.cause == "source-locked-out"]
            assert sorted(each.surface for each in told) == ["amqp", "https", "mqtt"]
            assert told[0].peer.startswith(f"{guesser}:")
            assert "failed_logins_pause" in told[0].remedy
            assert victim.is_open()
            assert other.is_open()
            assert log_in(honest, good) == (0x20, b"\0\0")
        hub.clock.move(61)
        assert log_in(guesser, good) == (0x20, b"\0\0"), "open again"


# -- dead credentials ------------------------------------------------------------------------------------------------


AT_ONCE: Final = 5.0  # seconds: one, and what a busy machine adds
EVENTS: Final = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
Dead = Callable[[], bool]


class Kept:
    """Requests over one HTTPS connection that stays open."""

    def __init__(self, hub: HubInThread, method: str, path: str, token: str, certificate: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=str(hub.trust_bundle))
        if certificate is not None:
            context.load_cert_chain(certificate)
        self._connection = http.client.HTTPSConnection(hub.host_name, 443, context=context, timeout=30)
        self._asked = (method, f"{path}?{VERSION}", b"x" if method == "POST" else None)
        self._headers = {"Authorization": token} if token else {}

    def status(self) -> int:
        self._connection.request(*self._asked, self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def is_refused(self) -> bool:
        try:
            return self.status() == 401
        except (ConnectionError, http.client.HTTPException):
            self._connection.close()  # cut; the next one is refused
            return self.status() == 401

    def close(self) -> None:
        self._connection.close()


class Links:
    """Links of all kinds. A device has one of each kind, so each wire has a device of its own: ``name-wire``."""

    def __init__(self, hub: HubInThread) -> None:
        self.hub = hub
        self.dead: dict[str, Dead] = {}
        self.peers: dict[str, MqttPeer] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def devices(self, name: str, token: Callable[[str], str | None], certificates: dict[str, Path]) -> None:
        """token, certificates: by device; no token where a certificate proves it."""
        for wire in ("mqtt", "mqtt-ws", "amqp", "amqp-ws", "https"):
            device = f"{name}-{wire}"
            certificate = certificates.get(device)
            if certificates and certificate is None:
                continue  # the peer's WebSocket shows no certificate
            path, shown = f"/devices/{device}/messages/events", token(device)
            if wire == "https":
                kept = self._open.enter_context(
                    contextlib.closing(Kept(self.hub, "POST", path, shown or "", certificate))
                )
                assert kept.status() == 204
                self.dead[device] = kept.is_refused
            elif wire.startswith("mqtt"):
                sock: Any = WebSocketPipe(self.hub, "mqtt") if wire == "mqtt-ws" else self._tls(8883, certificate)
                peer = self._open.enter_context(MqttPeer(self.hub, sock))
                user = USER_NAME.format(host=self.hub.host_name, client_id=device)
                peer.send(connect(device, user, shown, keep_alive=1200))
                assert peer.read() == (0x20, b"\0\0")
                self.peers[device], self.dead[device] = peer, peer.is_closed
            else:
                sock = WebSocketPipe(self.hub, "AMQPWSB10") if wire == "amqp-ws" else self._tls(5671, certificate)
                self.attached(device, shown, path, sock)

    def attached(self, name: str, token: str | None, address: str, sock: Any = None, *, receiver: bool = False) -> None:
        """An AMQP link, by a token on $cbs or by the certificate of its connection."""
        peer = self._open.enter_context(AmqpPeer(self.hub, sock))
        peer.opened()
        if token is not None:
            peer.authorised(token)
        peer.attached(address, handle=0, receiver=receiver)
        self.dead[name] = lambda: condition(peer.expect(Detach).error) == "amqp:unauthorized-access"

    def asked(self, name: str, path: str, token: str) -> None:
        kept = self._open.enter_context(contextlib.closing(Kept(self.hub, "GET", path, token)))
        assert kept.status() == 200
        self.dead[name] = kept.is_refused

    def all_die(self) -> float:
        """Seconds until the last one was dead."""
        began = time.monotonic()
        for name, is_dead in self.dead.items():
            assert is_dead(), name
        return time.monotonic() - began

    def _tls(self, port: int, certificate: Path | None) -> Any:
        return tls_socket(self.hub, port, certificate)


def every(hub: HubInThread, links: Links, method: str, body: dict[str, Any] | None = None) -> None:
    for device in links.dead:
        own = None if body is None else {"deviceId": device, **body}
        answer = request(hub, method, f"/devices/{device}?{VERSION}", own, headers={"If-Match": "*"})
        assert answer.status in {200, 204}, answer


NEW: Final = {f"{slot}Key": b64encode(b"n" * 32).decode() for slot in ("primary", "secondary")}
DEATHS: Final[dict[str, Callable[[HubInThread, Links], None]]] = {
    "disabled": lambda hub, links: every(hub, links, "PUT", {"status": "disabled"}),
    "deleted": lambda hub, links: every(hub, links, "DELETE"),
    "given other keys": lambda hub, links: every(
        hub, links, "PUT", {"authentication": {"type": "sas", "symmetricKey": NEW}}
    ),
}


@pytest.mark.spec("L-I3")
@pytest.mark.parametrize("how", DEATHS)
def test_a_devices_dead_key_is_dead_on_every_wire_at_once(shared_hub: HubInThread, how: str) -> None:
    name = how.replace(" ", "-")
    with Links(shared_hub) as links, MqttPeer.logged_in(shared_hub, f"beside-{name}") as bystander:
        links.devices(name, lambda device: device_token(shared_hub, device), {})
        DEATHS[how](shared_hub, links)
        assert links.all_die() < AT_ONCE
        assert bystander.is_open()
        causes = {shared_hub.refusals(device, 1)[0].cause for device in links.dead}
    assert causes <= {
        "device-disabled",
        "identity-deleted",
        "identity-unknown",
        "credentials-replaced",
        "token-signature",
    }


def test_a_denied_certificate_is_dead_on_every_wire_at_once(shared_hub: HubInThread, tmp_path: Path) -> None:
    hub = shared_hub
    made = {f"cert-{wire}": Certificate.made(f"cert-{wire}") for wire in ("mqtt", "amqp", "https")}
    for device, certificate in made.items():
        register(hub, device, certificate.sha256)
    with Links(hub) as links:
        links.devices("cert", _none, {device: each.file(tmp_path) for device, each in made.items()})
        for certificate in made.values():
            denied = request(hub, "POST", "/api/denials", {"kind": "cert", "certificate": certificate.pem})
            assert denied.status == 200
        assert links.all_die() < AT_ONCE
        assert {hub.refusals(device, 1)[0].cause for device in made} == {"certificate-denied"}


def _none(_device: str) -> None:
    return None


@pytest.mark.parametrize("how", ["rotated", "deleted"])
def test_a_policys_dead_key_is_dead_on_every_service_link_at_once(shared_hub: HubInThread, how: str) -> None:
    hub, policy = shared_hub, f"dying-{how}"
    rights = {"rights": "RegistryRead,ServiceConnect,DeviceConnect"}
    assert request(hub, "PUT", f"/api/policies/{policy}", rights).status == 200
    with Links(hub) as links, MqttPeer.logged_in(hub, f"beside-{how}") as bystander:
        token = hub.token(policy=policy)
        links.attached("feedback", token, "/messages/serviceBound/feedback", receiver=True)
        links.attached("events", events_token(hub, policy), EVENTS, receiver=True)
        links.attached(
            "feedback-ws",
            token,
            "/messages/serviceBound/filenotifications",
            WebSocketPipe(hub, "AMQPWSB10"),
            receiver=True,
        )
        links.asked("rest", "/devices", token)
        for device in (f"by-policy-{how}-{wire}" for wire in ("mqtt", "mqtt-ws", "amqp", "amqp-ws", "https")):
            hub.create_device(device)
        links.devices(f"by-policy-{how}", lambda _: token, {})
        if how == "deleted":
            answer = request(hub, "DELETE", f"/api/policies/{policy}", headers={"If-Match": "*"})
        else:
            answer = request(hub, "POST", f"/api/policies/{policy}/regenerate", {"policyKeyType": "primary"})
        assert answer.status in {200, 204}, answer
        assert links.all_die() < AT_ONCE
        assert bystander.is_open()
        told = {each.cause for each in hub.refusals(f"policy {policy}", 50)}
    assert "policy-changed" in told


def test_what_expires_is_dead_on_every_wire_a_second_after_the_grace() -> None:
    with HubInThread(limits={"token_grace": 5}) as hub, Links(hub) as links:
        links.devices("late", lambda device: device_token(hub, device, 40), {})
        token = hub.token(seconds=40)
        links.attached("feedback", token, "/messages/serviceBound/feedback", receiver=True)
        links.asked("rest", "/devices", token)
        hub.clock.move(41)
        for name in ("late-mqtt", "late-mqtt-ws"):
            assert links.peers[name].is_open(), "within the grace"
        hub.clock.move(5)
        assert links.all_die() < AT_ONCE
