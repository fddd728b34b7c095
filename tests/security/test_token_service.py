"""The token service: who gets a device token by which proof, who does not, and what the operator learns of it."""

import hmac
import json
import logging
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect
from conversations.token_peer import AUDIENCE, ISSUER, Company, TokenServiceInThread, address, basic, unsigned
from hubkeep.settings import SettingsError
from hubkeep.testing import HubInThread, MovableClock
from hubkeep.token_service.settings import load
from hubkeep.token_service.table import made_row, read_rows, write_rows
from hubkeep.wire import sas

HERE = ("127.0.0.0/8",)
AMPLE: dict[str, Any] = {"per_address": 10_000, "per_device": 1000}


@pytest.fixture(scope="module")
def company() -> Company:
    return Company()


@pytest.fixture(scope="module")
def service(
    shared_hub: HubInThread, company: Company, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TokenServiceInThread]:
    folder = tmp_path_factory.mktemp("tokens")
    keys = folder / "keys.json"
    keys.write_text(json.dumps(company.jwks()))
    wanted = {
        "issuer": ISSUER,
        "audiences": (AUDIENCE,),
        "keys_file": keys,
        "algorithms": ("RS256", "ES256", "EdDSA"),
        "module_claim": "module",
    }
    with TokenServiceInThread(shared_hub, folder / "data", jwt=wanted, **AMPLE) as service:
        yield service


def connack(hub: HubInThread, client_id: str, token: str) -> int:
    with MqttPeer(hub) as peer:
        peer.send(connect(client_id, USER_NAME.format(host=hub.host_name, client_id=client_id), token))
        answer = peer.read()
        assert answer is not None
        return answer[1][1]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_web_token_of_the_company_gets_a_token_of_the_device(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company, device_id: str, algorithm: str
) -> None:
    shared_hub.create_device(device_id)
    answer = service.ask(f"Bearer {company.token(device_id, time.time(), algorithm=algorithm)}")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.body
    assert (told["deviceId"], told["moduleId"], told["hostName"]) == (device_id, None, shared_hub.host_name)
    assert told["renewAfter"] < told["expires"]
    assert connack(shared_hub, device_id, told["token"]) == 0
    assert 3500 < sas.parse(told["token"]).expiry - time.time() <= 3600
    shorter = {"expiresInSeconds": 60, "deviceId": device_id}
    told = service.ask(f"bearer {company.token(device_id, time.time(), algorithm=algorithm)}", shorter).body
    assert sas.parse(told["token"]).expiry - time.time() <= 60


def test_a_module_is_named_by_its_claim(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company, device_id: str
) -> None:
    shared_hub.create_device(device_id)
    path = f"/devices/{device_id}/modules/vision?{VERSION}"
    assert request(shared_hub, "PUT", path, {"deviceId": device_id, "moduleId": "vision"}).status == 200
    told = service.ask(f"Bearer {company.token(device_id, time.time(), module='vision')}").body
    assert connack(shared_hub, f"{device_id}/vision", told["token"]) == 0
    assert connack(shared_hub, device_id, told["token"]) == 5


def forged(company: Company) -> dict[str, tuple[str, str]]:
    """Tokens that must open nothing, each with what the operator reads."""
    now, mine = time.time(), ec.generate_private_key(ec.SECP256R1())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "press-07", "exp": int(now) + 600}
    good = company.token("press-07", now)
    pem = (
        company.keys["RS256"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    confused = unsigned({"alg": "HS256", "kid": "RS256", "typ": "JWT"}, claims)
    signature = urlsafe_b64encode(hmac.digest(pem, confused.rpartition(".")[0].encode(), sha256)).decode().rstrip("=")
    own = {"jwk": jwt.algorithms.ECAlgorithm.to_jwk(mine.public_key(), as_dict=True)}
    head, body, end = good.split(".")
    return {
        "none": (unsigned({"alg": "none"}, claims), "signed by 'none'"),
        "None": (unsigned({"alg": "NONE", "kid": "ES256"}, claims), "signed by 'NONE'"),
        "a public key as secret": (confused.rpartition(".")[0] + "." + signature, "signed by 'HS256'"),
        "a key of its own": (jwt.encode(claims, mine, "ES256", {"kid": "ES256", **own}), "not by the issuer's key"),
        "an address of its own": (
            jwt.encode(claims, mine, "ES256", {"kid": "ES256", "jku": "https://evil.example/keys"}),
            "not by the issuer's key",
        ),
        "an unknown key": (company.token("press-07", now, header={"kid": "../../dev/null"}), "has no key"),
        "another kind of key": (company.token("press-07", now, header={"kid": "RS256"}), "has no key"),
        "another issuer": (company.token("press-07", now, iss=f"{ISSUER}/"), "of the issuer"),
        "another audience": (company.token("press-07", now, aud=["hub", "tokens"]), "is for"),
        "no audience": (company.token("press-07", now, aud=None), "is for"),
        "expired": (company.token("press-07", now, exp=int(now) - 61), "expired"),
        "without end": (company.token("press-07", now, exp=None), "never ends"),
        "an end that is none": (company.token("press-07", now, exp=True), "no time"),
        "not yet": (company.token("press-07", now, nbf=int(now) + 300), "begins in"),
        "from the future": (company.token("press-07", now, iat=int(now) + 300), "begins in"),
        "no device": (company.token("press-07", now, sub=None), "names no device"),
        "a device that is a number": (unsigned({"alg": "ES256"}, {**claims, "sub": 7}), "names no device|not by"),
        "changed": (f"{head}.{body[:-4]}AAAA.{end}", "not by the issuer's key"),
        "a second signature": (f"{good}.{end}", "no signed JSON web token"),
        "critical": (company.token("press-07", now, header={"crit": ["exp"]}), "crit|not understood"),
        "too long": (company.token("press-07", now, more="x" * 13_000), "characters"),
        "a shared access signature": ("SharedAccessSignature sr=a&sig=b&se=1", "no signed JSON web token"),
        "nothing": ("", "no signed JSON web token"),
    }


@pytest.mark.spec("L-I7")
@pytest.mark.explains("device-web-token", "device-proof-missing", "device-proof-of-another")
def test_web_tokens_that_prove_nothing_are_refused_alike_and_explained(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company
) -> None:
    shared_hub.create_device("press-07")
    told = set()
    for name, (token, reason) in forged(company).items():
        answer = service.ask(f"Bearer {token}")
        assert answer.status == 401, name
        told.add(answer.body["Message"])
        refusal = service.refusal(answer)
        assert any(each in refusal.reason for each in reason.split("|")), (name, refusal.reason)
        assert refusal.cause == "device-web-token"
        assert len(token) < 20 or token[-20:] not in repr(refusal)
    assert len(told) == 1
    for headers in ((), ["Bearer a", "Bearer b"], "Digest x"):
        assert service.refusal(service.ask(headers)).cause == "device-proof-missing"
    good = company.token("press-07", time.time())
    assert service.ask(f"Bearer {good}").status == 200
    said = service.ask(f"Bearer {good}", {"deviceId": "press-08"})
    refusal = service.refusal(said)
    assert (said.status, refusal.cause) == (401, "device-proof-of-another")
    assert "leave deviceId" in refusal.remedy


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/token", None, 405),
        ("POST", "/", None, 404),
        ("POST", "/devices", None, 404),
        ("POST", "/token", b"{", 400),
        ("POST", "/token", {"expiresInSeconds": 59}, 400),
        ("POST", "/token", {"expiresInSeconds": 3601}, 400),
        ("POST", "/token", {"deviceId": 7}, 400),
        ("POST", "/token", b"x" * 9000, 413),
        ("GET", "/healthz", None, 200),
    ],
)
def test_what_is_no_request_for_a_token_is_told_so(
    service: TokenServiceInThread, company: Company, method: str, path: str, body: Any, status: int
) -> None:
    answer = service.ask(f"Bearer {company.token('press-07', time.time())}", body, method=method, path=path)
    assert answer.status == status


@pytest.mark.explains("device-not-served")
def test_a_device_that_is_not_there_is_registered_only_where_that_is_wanted(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company, tmp_path: Path
) -> None:
    token = company.token("fresh/../press", time.time())
    assert service.ask(f"Bearer {token}").status == 401
    token = company.token("fresh", time.time(), module="vision")
    refused = service.ask(f"Bearer {token}")
    assert (refused.status, "is not registered" in service.refusal(refused).reason) == (401, True)
    settings = service.settings.model_dump(include={"jwt", "per_address"})
    with TokenServiceInThread(shared_hub, tmp_path, register_devices=True, **settings) as registering:
        told = registering.ask(f"Bearer {token}").body
        assert connack(shared_hub, "fresh/vision", told["token"]) == 0
        assert registering.ask(f"Bearer {company.token('fresh', time.time())}").status == 200
        for odd in (".", "..", "a b", "x" * 129, "sub/../x", "a\u00e4"):
            assert registering.ask(f"Bearer {company.token(odd, time.time())}").status == 401, odd
        found = request(shared_hub, "GET", f"/devices/fresh?{VERSION}").body
        assert found["authentication"]["symmetricKey"]["primaryKey"] not in repr(told)
        # who is shut out at the hub gets nothing more here
        body = {**found, "status": "disabled"}
        assert request(shared_hub, "PUT", f"/devices/fresh?{VERSION}", body, headers={"If-Match": "*"}).status == 200
        refused = registering.ask(f"Bearer {company.token('fresh', time.time())}")
        assert refused.status == 401
        assert registering.refusal(refused).cause == "device-not-served"
        assert "may not connect" in registering.refusal(refused).reason


def test_a_hub_that_does_not_help_is_no_fault_of_the_device(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company, tmp_path: Path
) -> None:
    settings = service.settings.model_dump(include={"jwt"})
    token = f"Bearer {company.token('press-07', time.time())}"
    wrong: dict[str, dict[str, str]] = {
        "401": {"connection_string": shared_hub.policy_connection_string("service")},
        "does not answer": {"address": "127.0.0.1:1"},
        "certificate": {"trust_bundle": str(service.settings.data / "trust-bundle.pem")},
    }
    for number, (reason, access) in enumerate(wrong.items()):
        with TokenServiceInThread(shared_hub, tmp_path / str(number), access=access, **settings) as helpless:
            answer = helpless.ask(token)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert reason in helpless.refusal(answer).reason.lower()


def test_keys_at_an_address_come_through_the_egress_rules_and_are_renewed(
    shared_hub: HubInThread, company: Company, tmp_path: Path
) -> None:
    clock = MovableClock()
    shared_hub.create_device("press-07")
    with address() as there:
        there.body = json.dumps(company.jwks("RS256")).encode()
        wanted = {"issuer": ISSUER, "audiences": (AUDIENCE,), "keys_url": there.url}
        with TokenServiceInThread(shared_hub, tmp_path / "closed", clock, jwt=wanted) as closed:
            answer = closed.ask(f"Bearer {company.token('press-07', clock.now(), algorithm='RS256')}")
            assert answer.status == 503
            assert "not open" in closed.refusal(answer).reason
            assert there.asked == []
        opened = {"allow": HERE}
        with TokenServiceInThread(shared_hub, tmp_path / "open", clock, jwt=wanted, egress=opened) as service:
            old = f"Bearer {company.token('press-07', clock.now(), algorithm='RS256')}"
            new = f"Bearer {company.token('press-07', clock.now(), algorithm='ES256')}"
            assert service.ask(old).status == 200
            assert service.ask(new).status == 401
            asked = len(there.asked)
            assert service.ask(new).status == 401
            assert len(there.asked) == asked, "strangers do not make it ask all the time"
            there.body = json.dumps(company.jwks("ES256")).encode()
            clock.move(11)
            assert service.ask(new).status == 200
            assert service.ask(old).status == 401  # the issuer has withdrawn it
            for status in (302, 500):
                there.status, there.headers = status, {"Location": there.url}
                clock.move(300)
                assert service.ask(old).status == 401
                assert service.ask(f"Bearer {company.token('press-07', clock.now())}").status == 200


@pytest.mark.explains("device-callback")
def test_a_callback_decides(shared_hub: HubInThread, tmp_path: Path, device_id: str) -> None:
    shared_hub.create_device(device_id)
    secret = tmp_path / "secret"
    secret.write_text("of-this-service\n")
    with address() as there:
        wanted = {"url": there.url, "secret_file": secret, "within": 5}
        options: dict[str, Any] = {"plugin": "callback", "callback": wanted, "egress": {"allow": HERE}}
        with TokenServiceInThread(shared_hub, tmp_path / "data", **options, **AMPLE) as service:
            there.body = json.dumps({"deviceId": device_id}).encode()
            told = service.ask("Ticket 4711", {"deviceId": device_id}).body
            assert connack(shared_hub, device_id, told["token"]) == 0
            headers, body = there.asked[0]
            assert headers["Authorization"] == "Bearer of-this-service"
            asked = json.loads(body)
            assert (asked["scheme"], asked["credential"], asked["deviceId"]) == ("ticket", "4711", device_id)
            for status, given, expected in (
                (403, b"{}", 401),
                (404, b"", 401),
                (200, b"{}", 401),
                (500, b"", 503),
                (302, b"", 503),
                (200, b"<html>", 503),
                (200, b" " * 20_000, 503),
            ):
                there.status, there.body, there.headers = status, given, {"Location": there.url}
                before = len(there.asked)
                answer = service.ask("Ticket 4711")
                assert answer.status == expected, (status, given)
                assert service.refusal(answer).cause == ("device-callback" if expected == 401 else "server-busy")
                assert len(there.asked) == before + 1, "a redirect is not followed"
                assert "4711" not in repr(service.refusal(answer))


@pytest.mark.explains("device-secret")
def test_a_table_of_hashes_decides_and_is_read_anew(shared_hub: HubInThread, tmp_path: Path, device_id: str) -> None:
    shared_hub.create_device(device_id)
    path = tmp_path / "table.jsonl"
    first, second = "first-secret-of-16", "second-secret-of-16"
    write_rows(path, {device_id: made_row(device_id, first)})
    assert first not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    with TokenServiceInThread(shared_hub, tmp_path / "data", plugin="table", table={"file": path}, **AMPLE) as service:
        assert connack(shared_hub, device_id, service.ask(basic(device_id, first)).body["token"]) == 0
        answers = [
            service.ask(basic(device_id, second)),
            service.ask(basic("nobody", first)),
            service.ask(basic("", first)),
            service.ask(f"Bearer {first}"),
            service.ask("Basic !!"),
        ]
        assert {(each.status, each.body["Message"]) for each in answers} == {
            (401, "ErrorCode:IotHubUnauthorized;Not authorised.")
        }
        assert "not the one in the table" in service.refusal(answers[0]).reason
        assert service.refusal(answers[0]).cause == "device-secret"
        assert "no such id" in service.refusal(answers[1]).reason
        write_rows(path, {**read_rows(path), device_id: made_row(device_id, second)})
        assert service.ask(basic(device_id, first)).status == 401
        assert service.ask(basic(device_id, second)).status == 200
        path.write_text("{")
        broken = service.ask(basic(device_id, second))
        assert (broken.status, "line 1" in service.refusal(broken).reason) == (503, True)
        assert first not in service.stored_refusals()


@pytest.mark.parametrize("secret", ["short", "with:colon-and-length", "ctrl-\x07-and-more-chars"])
def test_a_secret_that_is_none_is_not_put_into_the_table(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret has"):
        made_row("press-07", secret)


@pytest.mark.explains("device-tokens-too-many")
def test_who_asks_too_often_is_told_when_to_come_again(
    shared_hub: HubInThread, service: TokenServiceInThread, company: Company, tmp_path: Path
) -> None:
    clock = MovableClock()
    for each in ("press-07", "press-08"):
        shared_hub.create_device(each)
    settings = service.settings.model_dump(include={"jwt"})

    def ask(device: str) -> Answer:
        return throttled.ask(f"Bearer {company.token(device, clock.now())}")

    with TokenServiceInThread(shared_hub, tmp_path, clock, per_device=2, per_address=6, **settings) as throttled:
        assert [ask("press-07").status for _ in range(3)] == [200, 200, 429]
        assert ask("press-08").status == 200, "another device is not held up"
        clock.move(30)
        assert ask("press-07").status == 200
        assert [ask("press-08").status for _ in range(4)].count(429) > 0
        limited = ask("press-09")
        assert limited.status == 429
        assert 0 < int(limited.headers["retry-after"]) <= 10
        assert "this address" in throttled.refusal(limited).reason
        assert "per_address" in throttled.refusal(limited).remedy
        clock.move(60)
        assert ask("press-08").status == 200


class Birthmark:
    """A plug-in as another package has it."""

    def __init__(self, surroundings: Any) -> None:
        self._mark = surroundings.options["mark"]

    async def prove(self, presented: Any) -> Any:
        from hubkeep.token_service import Proved, Unauthorized

        if presented.credential != self._mark:
            raise Unauthorized(reason="another mark", remedy="look closer")
        return Proved(presented.device_id)


def test_a_plugin_of_another_package(
    shared_hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device_id: str
) -> None:
    shared_hub.create_device(device_id)
    described = tmp_path / "birthmarks-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: birthmarks\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[hubkeep.token_service]\nbirthmark = {__name__}:Birthmark\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    options: dict[str, Any] = {"plugin": "birthmark", "options": {"mark": "star"}}
    with TokenServiceInThread(shared_hub, tmp_path / "data", **options) as service:
        assert service.ask("Mark star", {"deviceId": device_id}).status == 200
        assert service.refusal(service.ask("Mark moon", {"deviceId": device_id})).reason == "another mark"
    with (
        pytest.raises(SettingsError, match="installed: birthmark"),
        TokenServiceInThread(shared_hub, tmp_path / "none", plugin="nothing"),
    ):
        pass


def test_no_secret_is_logged_or_kept(
    shared_hub: HubInThread,
    service: TokenServiceInThread,
    company: Company,
    device_id: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared_hub.create_device(device_id)
    caplog.set_level(logging.DEBUG)
    shown = company.token(device_id, time.time())
    handed = service.ask(f"Bearer {shown}").body["token"]
    stranger = company.token(device_id, time.time(), aud="elsewhere")
    service.ask(f"Bearer {stranger}")
    kept = caplog.text + service.stored_refusals() + repr(service.settings)
    assert f"a token for {device_id} until" in caplog.text
    key = shared_hub.policy_connection_string("device").rpartition("SharedAccessKey=")[2]
    signature = sas.percent_decoded(handed.partition("sig=")[2].partition("&")[0])
    for secret in (shown, stranger, shown.rpartition(".")[2], handed, signature, key):
        assert secret not in kept


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"jwt": {"issuer": ISSUER, "audiences": ("a",)}}, "one of jwt.keys_url and jwt.keys_file"),
        ({"jwt": {"issuer": ISSUER, "keys_url": "https://a/"}}, "jwt.issuer and jwt.audiences"),
        ({"jwt": {"algorithms": ("HS256",)}}, "jwt.algorithms"),
        ({"plugin": "callback"}, "callback.url is needed"),
        ({"plugin": "table", "token_seconds": 86_401}, "token_seconds"),
        ({"plugin": "table", "certificate": "a.pem"}, "belong together"),
        ({"plugin": "table", "nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_would_prove_nothing_are_refused(wanted: dict[str, Any], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load(None, **wanted)
