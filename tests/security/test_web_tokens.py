"""Web tokens that are not what they say: all are refused alike, and told to the operator (L-I7)."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conversations.amqp_peer import AmqpPeer
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import tls_socket
from hubkeep.causes import PEOPLE
from hubkeep.testing import HubInThread
from sign_in import EVENT_HUBS, HUB, KeyServer, new_key, public_jwk, segment, signed_with

DEVICE: Final = "press-07"


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture(scope="module")
def hub(provider: KeyServer) -> Iterator[HubInThread]:
    people = provider.settings(roles=[{"role": "reader", "claim": "sub", "value": "ann"}], clients=["dashboards"])
    with HubInThread(people=people) as hub:
        hub.create_device(DEVICE)
        yield hub


def status_of(hub: HubInThread, token: str, method: str = "GET") -> int:
    return request(hub, method, f"/devices/{DEVICE}?{VERSION}", token=f"Bearer {token}").status


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
def test_a_good_token_counts_by_each_algorithm(hub: HubInThread, provider: KeyServer, algorithm: str) -> None:
    kid = "curve" if algorithm == "ES256" else "first"
    assert status_of(hub, provider.signed({"alg": algorithm, "kid": kid})) == 200


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"kid": "first", "typ": "JWT"}, {}),
        ({"typ": None}, {}),
        ({"typ": "application/at+jwt"}, {}),
        ({}, {"aud": ["https://other.example", f"{HUB}/"]}),
        ({}, {"client_id": None, "azp": "dashboards"}),
        ({}, {"exp": -60.0}),  # within the grace of all tokens
        ({}, {"nbf": 30.0}),  # within what clocks may differ
        ({}, {"exp": 600.5}),
    ],
)
def test_what_providers_differ_in_is_taken(
    hub: HubInThread, provider: KeyServer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    now = time.time()  # the claims' times are seconds from now: the test may run long after it was collected
    said = {name: now + each if isinstance(each, float) else each for name, each in claims.items()}
    assert status_of(hub, provider.signed(header, **said)) == 200


def unsigned(provider: KeyServer, algorithm: str = "none") -> str:
    return f"{segment({'alg': algorithm, 'kid': 'first'})}.{segment(provider.claims())}."


def by_hmac(provider: KeyServer, form: str) -> str:
    """Signed with what everybody knows: the public key, in one of its forms, as the secret of an HMAC."""
    key = provider.key.public_key()
    texts = {
        "pem": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(provider.keys[0]).encode(),
        "empty": b"",
    }
    return signed_with(texts[form], {"alg": "HS256", "kid": "first", "typ": "JWT"}, provider.claims())


def by_stranger(provider: KeyServer, **header: Any) -> str:
    """Signed with a key of the sender's own."""
    return signed_with(STRANGER, {"alg": "RS256", "kid": "first", "typ": "at+jwt", **header}, provider.claims())


STRANGER: Final = new_key()
OWN: Final = public_jwk(STRANGER, kid="first")


def signature_of_another(provider: KeyServer) -> str:
    head, _, _ = provider.signed(sub="eve").rpartition(".")
    return f"{head}.{provider.signed().rpartition('.')[2]}"


def twice(provider: KeyServer, name: str, value: str) -> str:
    """Claims in which one stands twice, signed by the provider's own key."""
    text = json.dumps(provider.claims())[:-1] + f', "{name}": {json.dumps(value)}}}'
    return signed_with(provider.key, {"alg": "RS256", "kid": "first"}, text)


Make = Callable[[KeyServer], str]
_AWAY: Final = {"jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert"}
# what is wrong with it, how it is made, what the operator reads of it
ATTACKS: Final[list[tuple[str, Make, str]]] = [
    ("no signature", unsigned, "no signed JSON web token"),
    ("none with a signature", lambda p: f"{unsigned(p)}AAAA", "signed by 'none'"),
    ("None in another case", lambda p: f"{unsigned(p, 'nOnE')}AAAA", "signed by 'nOnE'"),
    ("no algorithm", lambda p: f"{segment({'kid': 'first'})}.{segment(p.claims())}.AAAA", "signed by None"),
    ("HMAC with the key's PEM", lambda p: by_hmac(p, "pem"), "signed by 'HS256'"),
    ("HMAC with the key's DER", lambda p: by_hmac(p, "der"), "signed by 'HS256'"),
    ("HMAC with the key's JWK", lambda p: by_hmac(p, "jwk"), "signed by 'HS256'"),
    ("HMAC with nothing", lambda p: by_hmac(p, "empty"), "signed by 'HS256'"),
    ("RS512", lambda p: p.signed({"alg": "RS512"}), "signed by 'RS512'"),
    ("the RSA key for ES256", lambda p: p.signed({"alg": "ES256"}), "no key 'first' for ES256"),
    ("the curve for RS256", lambda p: p.signed({"kid": "curve"}), "no key 'curve' for RS256"),
    ("a stranger's key", by_stranger, "not by the provider's key 'first'"),
    ("a key in the token", lambda p: by_stranger(p, jwk=OWN), "not by the provider's key 'first'"),
    ("keys elsewhere", lambda p: by_stranger(p, **_AWAY), "not by the provider's key 'first'"),
    ("a certificate in the token", lambda p: by_stranger(p, x5c=["MIIB"]), "not by the provider's key 'first'"),
    ("another token's signature", signature_of_another, "not by the provider's key 'first'"),
    ("an unknown key", lambda p: p.signed({"kid": "other"}), "has no key 'other'"),
    ("a path for a key", lambda p: p.signed({"kid": "../../../../dev/null"}), "has no key"),
    ("a URL for a key", lambda p: p.signed({"kid": f"{p.issuer}/keys?own"}), "has no key"),
    ("SQL for a key", lambda p: p.signed({"kid": "x' UNION SELECT 'AAAA'--"}), "has no key"),
    ("a long key id", lambda p: p.signed({"kid": "k" * 300}), "no text, or too long"),
    ("no key id where there are many", lambda p: p.signed({"kid": None, "alg": "RS256"}, iss=f"{p.issuer}/"), "issuer"),
    ("another issuer", lambda p: p.signed(iss="https://evil.example"), "of the issuer 'https://evil.example'"),
    ("issuers", lambda p: p.signed(iss=[p.issuer]), "of the issuer"),
    ("no issuer", lambda p: p.signed(iss=None), "of the issuer None"),
    ("another audience", lambda p: p.signed(aud="https://management.azure.com"), "accepted: https://iothubs.azure.net"),
    ("the audience of Event Hubs", lambda p: p.signed(aud=EVENT_HUBS), "accepted: https://iothubs.azure.net"),
    ("an audience that begins so", lambda p: p.signed(aud=f"{HUB}.evil.example"), "accepted: https://iothubs"),
    ("no audience", lambda p: p.signed(aud=None), "is for None"),
    ("audiences inside of another", lambda p: p.signed(aud=[[HUB]]), "accepted: https://iothubs"),
    ("another client", lambda p: p.signed(client_id="stranger"), "for the client 'stranger'"),
    ("no client", lambda p: p.signed(client_id=None), "for the client None"),
    ("expired", lambda p: p.signed(exp=time.time() - 301), "expired 301 seconds ago"),
    ("no end", lambda p: p.signed(exp=None), "never ends"),
    ("an end far away", lambda p: p.signed(exp=1e300), "exp is no time"),
    ("from the future", lambda p: p.signed(nbf=time.time() + 300), "begins 300 seconds from now (nbf)"),
    ("made in the future", lambda p: p.signed(iat=time.time() + 300), "seconds from now (iat)"),
    ("nobody", lambda p: p.signed(sub=None), "names nobody"),
    ("nobody with a name", lambda p: p.signed(sub=""), "names nobody"),
    ("an extension that must be understood", lambda p: p.signed({"crit": ["exp"], "exp": 1}), "crit"),
    ("an unencoded payload", lambda p: p.signed({"crit": ["b64"], "b64": True}), "crit"),
    ("a token in the token", lambda p: p.signed({"cty": "JWT"}), "cty 'JWT'"),
    ("a logout token", lambda p: p.signed({"typ": "logout+jwt"}), "typ 'logout+jwt'"),
    ("a proof of possession", lambda p: p.signed({"typ": "dpop+jwt"}), "typ 'dpop+jwt'"),
    ("a type that is no text", lambda p: p.signed({"typ": ["at+jwt"]}), "no access token"),
    ("a claim twice", lambda p: twice(p, "sub", "ann"), "a key stands twice"),
    ("the issuer twice", lambda p: twice(p, "iss", p.issuer), "a key stands twice"),
    ("too long", lambda p: p.signed(groups=["g" * 17_000]), "at most 16384"),
    ("four parts", lambda p: f"{p.signed()}.AAAA", "no signed JSON web token"),
    ("five parts", lambda p: "e30.e30.e30.e30.e30", "no signed JSON web token"),
    ("two parts", lambda p: p.signed().rpartition(".")[0], "no signed JSON web token"),
    ("a second signature", lambda p: json.dumps({"payload": "e30", "signatures": []}), "no signed JSON web token"),
    ("claims that are no object", lambda p: f"{p.signed().split('.')[0]}.{segment([1])}.AAAA", "no JSON object"),
    ("a header that is no JSON", lambda p: f"{segment('{')}.{segment(p.claims())}.AAAA", "not JSON as it should be"),
    ("padded", lambda p: p.signed() + "==", "no signed JSON web token"),
    ("nothing", lambda _: "", "no signed JSON web token"),
]


@pytest.mark.spec("L-I7")
@pytest.mark.explains("web-token-malformed", "web-token-size", "web-token-algorithm", "web-token-extension")
@pytest.mark.explains("web-token-type", "web-token-issuer", "web-token-key", "web-token-signature")
@pytest.mark.explains("web-token-audience", "web-token-client", "web-token-times", "web-token-expired")
@pytest.mark.explains("web-token-early", "web-token-names-nobody")
def test_attacks_are_refused_without_detail_and_told_to_the_operator(hub: HubInThread, provider: KeyServer) -> None:
    """Over HTTPS, and by a put-token, which says no more."""
    wrong = []
    answers, causes = set(), set()
    with AmqpPeer(hub, tls_socket(hub, 5671)).opened() as peer:
        peer.node()
        for name, make, reason in ATTACKS:
            token = make(provider)
            answer = request(hub, "GET", f"/devices/{DEVICE}?{VERSION}", token=f"Bearer {token}")
            tracking_id = answer.body["ExceptionMessage"].partition("Tracking ID:")[2].partition("-")[0]
            (refusal,) = hub.refusals(tracking_id)
            answers.add((answer.status, answer.body["Message"]))
            causes.add(refusal.cause)
            if reason not in refusal.reason or not refusal.cause.startswith("web-token-"):
                wrong.append(f"{name}: {refusal.cause}: {refusal.reason}")
            assert refusal.surface == "https", name
            if token.count(".") == 2 and "=" not in token and not token.endswith("."):
                assert peer.put_token(f"Bearer {token}").status == 401, name
    assert not wrong, "\n".join(wrong)
    assert causes == {each for each in PEOPLE if each.startswith("web-token-")} - {"web-token-nonce"}
    assert answers == {(401, "ErrorCode:IotHubUnauthorized;Not authorised.")}
    assert provider.others == 0, "the hub asked where a token sent it"
    assert status_of(hub, provider.signed()) == 200, "nobody else is disturbed"


def test_a_token_of_a_bearer_is_in_no_record(hub: HubInThread, provider: KeyServer) -> None:
    token = provider.signed(exp=time.time() - 1000)
    assert status_of(hub, token) == 401
    newest = hub.refusals(most=1)[0]
    assert newest.presented["sub"] == "'ann'"
    assert newest.remedy
    for part in token.split("."):
        assert part not in str(newest.presented) + newest.reason


def test_strangers_cannot_make_the_hub_ask_its_provider_at_their_pace(hub: HubInThread, provider: KeyServer) -> None:
    hub.clock.move(11)
    before = provider.fetches
    for number in range(12):
        assert status_of(hub, provider.signed({"kid": f"made-up-{number}"})) == 401
    assert provider.fetches - before == 1


def test_a_new_key_counts_within_seconds_and_one_taken_back_no_longer(hub: HubInThread, provider: KeyServer) -> None:
    renewed, kept = new_key(), list(provider.keys)
    token = signed_with(renewed, {"alg": "PS256", "kid": "renewed"}, provider.claims())
    assert status_of(hub, token) == 401
    provider.keys = [public_jwk(renewed, kid="renewed")]
    hub.clock.move(11)
    assert status_of(hub, token) == 200
    assert status_of(hub, provider.signed()) == 401
    provider.keys = kept
    hub.clock.move(11)
    assert status_of(hub, provider.signed()) == 200
    assert status_of(hub, token) == 401


@pytest.mark.explains("provider-away")
def test_known_keys_count_while_the_provider_is_away_and_not_for_ever(hub: HubInThread, provider: KeyServer) -> None:
    assert status_of(hub, provider.signed()) == 200
    provider.is_away = True
    try:
        hub.clock.move(3600)
        assert status_of(hub, provider.signed(exp=time.time() + 90_000)) == 200
        hub.clock.move(86_400)
        token = provider.signed(exp=time.time() + 100_000)
        assert status_of(hub, token) == 401
        newest = hub.refusals(most=1)[0]
        assert newest.cause == "provider-away"
        assert "answered 503" in newest.reason
    finally:
        provider.is_away = False
        hub.clock.move(11)
    assert status_of(hub, token) == 200
    hub.clock.jump(-90_000 - 100)


def test_a_provider_that_points_elsewhere_is_not_followed() -> None:
    documents: list[tuple[dict[str, Any], str]] = [
        ({"issuer": "http://127.0.0.1:1"}, "calls itself"),
        ({"jwks_uri": "http://127.0.0.9/keys"}, "'127.0.0.9' is not reached"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https address"),
        ({"jwks_uri": None}, "no https address"),
    ]
    with KeyServer() as server, HubInThread(people=server.settings()) as hub:
        own = dict(server.document)
        for document, reason in documents:
            server.document = own | document
            assert status_of(hub, server.signed()) == 401
            assert reason in hub.refusals(most=1)[0].reason
            hub.clock.move(11)
        weak = new_key(1024)
        server.document = own
        server.keys = [
            public_jwk(weak, kid="weak"),
            public_jwk(server.key, kid="enc", use="enc"),
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
            public_jwk(server.key, kid="first"),
        ]
        for kid, key in (("weak", weak), ("enc", server.key)):
            token = signed_with(key, {"alg": "RS256", "kid": kid}, server.claims())
            assert status_of(hub, token) == 401
            assert f"has no key '{kid}'" in hub.refusals(most=1)[0].reason
        # genuine, and of somebody without any role
        assert request(hub, "GET", f"/api/self?{VERSION}", token=f"Bearer {server.signed()}").status == 200
        assert status_of(hub, server.signed()) == 401


def test_a_hub_without_a_provider_says_so_to_its_operator(shared_hub: HubInThread, provider: KeyServer) -> None:
    assert status_of(shared_hub, provider.signed()) == 401
    assert shared_hub.refusals(most=1)[0].cause == "people-off"
    assert request(shared_hub, "GET", "/api/sign-in", token="").status == 404
