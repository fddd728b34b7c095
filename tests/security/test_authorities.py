"""Devices that a registered certificate authority speaks for: the whole chain, the name, and every bad certificate."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from conversations.certificates import CLIENT_ALONE, SIGNS_CERTIFICATES, Certificate, register
from conversations.https_peer import Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from hubkeep.connection.certificate_paths import DevicePaths
from hubkeep.connection.client_certificates import prove
from hubkeep.errors import Unauthorized
from hubkeep.model import Authority, Identity
from hubkeep.testing import HubInThread
from security.test_thumbprints import ACCEPTED, REFUSED, by_amqp, by_https, by_mqtt, tls_socket_of_anything

FOR_SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
FOR_CLIENTS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ROOT = Certificate.made("plant root", ca=True, extensions=[SIGNS_CERTIFICATES])
BETWEEN = Certificate.made("plant issuer", issuer=ROOT, ca=True, path_length=0, extensions=[SIGNS_CERTIFICATES])
EXPIRED_BETWEEN = Certificate.made("late issuer", issuer=ROOT, ca=True, days=(-9, -1))
NO_CA = Certificate.made("no issuer", issuer=ROOT, ca=False)
NOT_SIGNING = Certificate.made("no signer", issuer=ROOT, ca=True, extensions=[CLIENT_ALONE])
SERVERS_CA = Certificate.made("servers' issuer", issuer=ROOT, ca=True, extensions=[FOR_SERVERS])
STRANGER = Certificate.made("a stranger", ca=True)
NAMESAKE = Certificate.made("plant root", ca=True)
UNVERIFIED = Certificate.made("unverified", ca=True)
BELOW_BETWEEN = Certificate.made("too deep", issuer=BETWEEN, ca=True)
INTERMEDIATE = Certificate.made("registered issuer", issuer=STRANGER, ca=True)


def ca_path(name: str) -> str:
    return f"/api/cas/{name}"


def upload(hub: HubInThread, name: str, certificate: Certificate, *, verified: bool = False) -> Answer:
    return request(hub, "PUT", ca_path(name), {"certificate": certificate.pem, "isVerified": verified})


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    """A hub on which a root and an intermediate are verified, and one authority is not."""
    with HubInThread() as hub:
        assert upload(hub, "root", ROOT, verified=True).body["state"] == "active"
        assert upload(hub, "issuer", INTERMEDIATE, verified=True).status == 200
        assert upload(hub, "unverified", UNVERIFIED).body["state"] == "unverified"
        yield hub


GOOD: dict[str, Callable[[str], tuple[Certificate, list[Certificate]]]] = {
    "under the root": lambda name: (Certificate.made(name, issuer=ROOT), []),
    "over an intermediate": lambda name: (Certificate.made(name, issuer=BETWEEN, ca=False), [BETWEEN]),
    "with the root as well": lambda name: (Certificate.made(name, issuer=BETWEEN), [BETWEEN, ROOT]),
    "under a registered intermediate": lambda name: (Certificate.made(name, issuer=INTERMEDIATE), []),
    "with usages": lambda name: (Certificate.made(name, issuer=ROOT, extensions=[FOR_CLIENTS, CLIENT_ALONE]), []),
    "RSA": lambda name: (Certificate.made(name, issuer=ROOT, key=rsa.generate_private_key(65537, 2048)), []),
    "with strangers in the chain": lambda name: (Certificate.made(name, issuer=BETWEEN), [STRANGER, BETWEEN]),
}


@pytest.mark.spec("P-35", "P-37")
@pytest.mark.parametrize("kind", GOOD)
def test_a_certificate_of_a_registered_authority(plant: HubInThread, tmp_path: Path, kind: str) -> None:
    device_id = f"g{list(GOOD).index(kind)}-press"  # short enough for a common name
    register(plant, device_id)
    shown, chain = GOOD[kind](device_id)
    file = shown.file(tmp_path, chain=chain)
    assert by_mqtt(plant, device_id, file) == ACCEPTED
    assert by_amqp(plant, device_id, file)
    assert by_https(plant, device_id, file) == 204
    stranger = Certificate.made(device_id, issuer=STRANGER).file(tmp_path, chain=[STRANGER])
    assert by_mqtt(plant, device_id, stranger) == REFUSED
    assert plant.refusals(device_id, 1)[0].reason.startswith("chain: ")


class Bad(NamedTuple):
    """chain: presented beside the certificate. reason: how the operator's begins."""

    make: Callable[[str], Certificate]
    reason: str
    chain: tuple[Certificate, ...] = ()


def of_encoding(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _type=_ASN1Type.BMPString)])


BAD: dict[str, Bad] = {
    "of an unknown CA": Bad(lambda name: Certificate.made(name, issuer=STRANGER), "chain: its issuer 'CN=a stranger'"),
    "of an unknown CA, in full": Bad(lambda name: Certificate.made(name, issuer=STRANGER), "chain: ", (STRANGER,)),
    "of a namesake of the root": Bad(lambda name: Certificate.made(name, issuer=NAMESAKE), "chain: ", (NAMESAKE,)),
    "of an unverified CA": Bad(lambda name: Certificate.made(name, issuer=UNVERIFIED), "chain: ", (UNVERIFIED,)),
    "self-signed": Bad(Certificate.made, "chain: "),
    "signed by another key": Bad(
        lambda name: Certificate.made(name, issuer=ROOT, signer=ec.generate_private_key(ec.SECP256R1())), "chain: "
    ),
    "its intermediate left out": Bad(lambda name: Certificate.made(name, issuer=BETWEEN), "chain: its issuer"),
    "expired": Bad(lambda name: Certificate.made(name, issuer=ROOT, days=(-9, -1)), "expired: "),
    "not yet valid": Bad(lambda name: Certificate.made(name, issuer=ROOT, days=(1, 9)), "not-yet-valid: "),
    "an expired intermediate": Bad(
        lambda name: Certificate.made(name, issuer=EXPIRED_BETWEEN), "chain: 'CN=late issuer'", (EXPIRED_BETWEEN,)
    ),
    "another name": Bad(lambda name: Certificate.made(f"{name}x", issuer=ROOT), "cn: "),
    "a name that contains the id": Bad(lambda name: Certificate.made(f"a {name} b", issuer=ROOT), "cn: "),
    "another case": Bad(lambda name: Certificate.made(name.upper(), issuer=ROOT), "cn: "),
    "two names": Bad(lambda name: Certificate.made([name, "other"], issuer=ROOT), "cn: "),
    "the same name twice": Bad(lambda name: Certificate.made([name, name], issuer=ROOT), "cn: "),
    "no name": Bad(lambda _: Certificate.made([], issuer=ROOT), "cn: "),
    "a NUL in the name": Bad(lambda name: Certificate.made(f"{name}\0.example", issuer=ROOT), "cn: "),
    "a NUL at the end": Bad(lambda name: Certificate.made(f"{name}\0", issuer=ROOT), "cn: "),
    "a space at the end": Bad(lambda name: Certificate.made(f"{name} ", issuer=ROOT), "cn: "),
    "a name in another encoding": Bad(lambda name: Certificate.made(of_encoding(name), issuer=ROOT), "cn: "),
    "for servers alone": Bad(lambda name: Certificate.made(name, issuer=ROOT, extensions=[FOR_SERVERS]), "usage: "),
    "not for signatures": Bad(
        lambda name: Certificate.made(name, issuer=ROOT, extensions=[SIGNS_CERTIFICATES]), "usage: "
    ),
    "a CA": Bad(lambda name: Certificate.made(name, issuer=ROOT, ca=True), "is-ca: "),
    "a path too long": Bad(
        lambda name: Certificate.made(name, issuer=BELOW_BETWEEN), "ca-constraint: ", (BELOW_BETWEEN, BETWEEN)
    ),
    "an intermediate that is no CA": Bad(lambda name: Certificate.made(name, issuer=NO_CA), "ca-constraint", (NO_CA,)),
    "an intermediate that may not sign": Bad(
        lambda name: Certificate.made(name, issuer=NOT_SIGNING), "ca-constraint: ", (NOT_SIGNING,)
    ),
    "an intermediate for servers": Bad(
        lambda name: Certificate.made(name, issuer=SERVERS_CA), "ca-constraint: ", (SERVERS_CA,)
    ),
    "a weak key": Bad(
        lambda name: Certificate.made(name, issuer=ROOT, key=rsa.generate_private_key(65537, 1024)), "weak-key: "
    ),
}


@pytest.mark.spec("L-I6", "D-110", "P-V7b", "P-V8b", "P-V10b")
@pytest.mark.parametrize("cause", BAD)
def test_every_other_certificate_gets_the_one_answer(plant: HubInThread, tmp_path: Path, cause: str) -> None:
    device_id = f"d{list(BAD).index(cause)}-press"  # short enough for a common name
    register(plant, device_id)
    bad = BAD[cause]
    file = bad.make(device_id).file(tmp_path, chain=bad.chain)
    with MqttPeer(plant, tls_socket_of_anything(plant, file)) as peer:
        peer.send(connect(device_id, USER_NAME.format(host=plant.host_name, client_id=device_id), None))
        assert peer.read() == REFUSED
    (refusal,) = plant.refusals(device_id, 1)
    assert refusal.reason.startswith(bad.reason), refusal.reason
    if cause != "a weak key":  # clients do not load it otherwise
        assert by_https(plant, device_id, file) == 401
        assert not by_amqp(plant, device_id, file)


@pytest.mark.spec("P-V2")
def test_curves_that_clients_do_not_send() -> None:
    authority = Authority(name="root", certificate=ROOT.der, sha256="", state="active", etag="", created=0, updated=0)
    identity = Identity(device_id="press-07", authentication="certificateAuthority")
    paths, now = DevicePaths(lambda: [authority]), ROOT.certificate.not_valid_before_utc.timestamp() + 86_400
    for key in (ec.generate_private_key(ec.SECP256K1()), ec.generate_private_key(ec.SECP192R1())):
        with pytest.raises(Unauthorized) as refused:
            prove(identity, [Certificate.made("press-07", issuer=ROOT, key=key).der], now, paths)
        assert refused.value.reason.startswith("weak-key: ")
    good = Certificate.made("press-07", issuer=ROOT, key=ed25519.Ed25519PrivateKey.generate())
    assert prove(identity, [good.der], now, paths).authority == "root"


def test_modules_are_named_behind_their_device(plant: HubInThread, device_id: str, tmp_path: Path) -> None:
    register(plant, device_id)
    register(plant, device_id, module_id="camera")
    camera = Certificate.made(f"{device_id}/camera", issuer=ROOT).file(tmp_path)
    assert by_mqtt(plant, f"{device_id}/camera", camera) == ACCEPTED
    assert by_mqtt(plant, device_id, camera) == REFUSED
    assert by_mqtt(plant, f"{device_id}/camera", Certificate.made(device_id, issuer=ROOT).file(tmp_path)) == REFUSED


@pytest.mark.spec("D-112", "P-43", "P-T14")
def test_proof_of_possession(tmp_path: Path) -> None:
    with HubInThread() as hub:
        mine, namesake = Certificate.made("mine", ca=True), Certificate.made("mine", ca=True)
        register(hub, "press-07")
        device = Certificate.made("press-07", issuer=mine).file(tmp_path)
        assert upload(hub, "mine", mine).body["state"] == "unverified"

        def proof(certificate: Certificate) -> int:
            return request(hub, "POST", f"{ca_path('mine')}/proof", {"certificate": certificate.pem}).status

        def challenge() -> str:
            answer = request(hub, "POST", f"{ca_path('mine')}/challenge")
            assert len(answer.body["verificationCode"]) == 48
            return str(answer.body["verificationCode"])

        assert proof(Certificate.made("code", issuer=mine)) == 400, "no code was asked for"
        old = challenge()
        code = challenge()
        for bad in (
            Certificate.made(old, issuer=mine),
            Certificate.made("a" * 48, issuer=mine),
            Certificate.made([code, code], issuer=mine),
            Certificate.made(code, issuer=namesake),
            Certificate.made(code, issuer=mine, signer=namesake.key),
            Certificate.made(code, issuer=mine, days=(-2, -1)),
            Certificate.made(code),
        ):
            assert proof(bad) == 400
            assert by_mqtt(hub, "press-07", device) == REFUSED
        good = Certificate.made(code.lower(), issuer=mine)
        assert proof(good) == 200
        assert by_mqtt(hub, "press-07", device) == ACCEPTED
        assert proof(good) == 400, "a code is good for one proof"
        register(hub, code.lower())  # a device of the code's name: what proved the authority is public, and no device's
        assert by_mqtt(hub, code.lower(), good.file(tmp_path)) == REFUSED
        assert hub.refusals(code.lower(), 1)[0].reason.startswith("denied: ")
        code = challenge()
        hub.clock.move(86_401)
        assert proof(Certificate.made(code, issuer=mine)) == 400


def test_what_cannot_be_registered(plant: HubInThread) -> None:
    def status(certificate: Certificate, name: str = "new") -> int:
        return upload(plant, name, certificate, verified=True).status

    assert status(Certificate.made("a leaf")) == 400
    assert status(Certificate.made("marked as none", ca=False)) == 400
    assert status(Certificate.made("may not sign", ca=True, extensions=[CLIENT_ALONE])) == 400
    assert status(Certificate.made("ended", ca=True, days=(-9, -1))) == 400
    assert status(Certificate.made("weak", ca=True, key=rsa.generate_private_key(65537, 1024))) == 400
    assert status(Certificate.made("Ed25519", ca=True, key=ed25519.Ed25519PrivateKey.generate())) == 400
    assert status(STRANGER, "root") == 409, "the name is taken"
    assert status(ROOT) == 409, "the certificate is"
    assert status(STRANGER, "a%20b") == 400
    chain = {"certificate": ROOT.pem + STRANGER.pem}
    for body in (chain, {"certificate": "x"}, {"certificate": ROOT.pem[:300]}, {}, {"certificate": "x" * 30_000}):
        assert request(plant, "PUT", ca_path("new"), body).status == 400
    assert request(plant, "GET", ca_path("new")).status == 404
    for policy in ("service", "registryReadWrite"):
        assert request(plant, "PUT", ca_path("new"), {"certificate": STRANGER.pem}, policy=policy).status in {401, 403}


@pytest.mark.spec("P-44", "P-T14")
def test_an_authority_of_the_public_web_speaks_for_nobody(plant: HubInThread) -> None:
    pems = re.findall("-----BEGIN.+?-----END CERTIFICATE-----", Path(certifi.where()).read_text(), re.DOTALL)
    for pem in (pems[0], pems[-1]):
        answer = request(plant, "PUT", ca_path("web"), {"certificate": pem, "isVerified": True})
        assert answer.status == 400
        assert "public web" in answer.body["Message"] or "no authority" in answer.body["Message"]
    assert request(plant, "GET", ca_path("web")).status == 404


@pytest.mark.spec("P-45")
def test_an_authority_in_use_is_deleted_by_force_alone(tmp_path: Path) -> None:
    with HubInThread() as hub:
        upload(hub, "root", ROOT, verified=True)
        register(hub, "press-07")
        assert by_mqtt(hub, "press-07", Certificate.made("press-07", issuer=ROOT).file(tmp_path)) == ACCEPTED
        hub.ask(hub.hub.certification.uses.flush())
        refused = request(hub, "DELETE", ca_path("root"))
        assert (refused.status, refused.code) == (409, "CertificateInUse")
        assert "1 identities" in refused.body["Message"]
        assert request(hub, "DELETE", f"{ca_path('root')}?force=true").status == 204
        upload(hub, "root", ROOT, verified=True)
        hub.clock.move(31 * 86_400)
        assert request(hub, "DELETE", ca_path("root")).status == 204, "nobody came for a month"


def test_a_retiring_authority_speaks_for_those_that_it_let_in_before(tmp_path: Path) -> None:
    with HubInThread() as hub:
        upload(hub, "root", ROOT, verified=True)
        files = {}
        for name in ("old", "new"):
            register(hub, name)
            files[name] = Certificate.made(name, issuer=ROOT).file(tmp_path)
        assert by_mqtt(hub, "old", files["old"]) == ACCEPTED
        assert request(hub, "POST", f"{ca_path('root')}/state", {"state": "retiring"}).body["state"] == "retiring"
        assert by_mqtt(hub, "old", files["old"]) == ACCEPTED
        assert by_mqtt(hub, "new", files["new"]) == REFUSED
        assert request(hub, "POST", f"{ca_path('root')}/state", {"state": "active"}).status == 200
        assert by_mqtt(hub, "new", files["new"]) == ACCEPTED
        for state in ("unverified", "waiting", "x"):
            assert request(hub, "POST", f"{ca_path('root')}/state", {"state": state}).status == 400
        assert request(hub, "POST", f"{ca_path('root')}/state", {"state": "revoked"}).status == 200
        for state in ("active", "staged", "retiring"):
            assert request(hub, "POST", f"{ca_path('root')}/state", {"state": state}).status == 400, "for ever"


def test_devices_below_a_deleted_authority_are_cut(tmp_path: Path) -> None:
    with HubInThread() as hub:
        upload(hub, "root", ROOT, verified=True)
        upload(hub, "other", INTERMEDIATE, verified=True)
        files = {}
        for name, issuer in (("below", ROOT), ("beside", INTERMEDIATE)):
            register(hub, name)
            files[name] = Certificate.made(name, issuer=issuer).file(tmp_path)
        peers = {name: MqttPeer(hub, tls_socket(hub, 8883, file)) for name, file in files.items()}
        for name, peer in peers.items():
            peer.send(connect(name, USER_NAME.format(host=hub.host_name, client_id=name), None))
            assert peer.read() == ACCEPTED
        assert request(hub, "DELETE", ca_path("root"), headers={"If-Match": '"stale"'}).status == 412
        assert request(hub, "DELETE", f"{ca_path('root')}?force=true").status == 204
        assert peers["below"].is_closed()
        assert peers["beside"].is_open()
        assert by_mqtt(hub, "below", files["below"]) == REFUSED
        for peer in peers.values():
            peer.sock.close()


def test_authorities_outlive_the_process(tmp_path: Path) -> None:
    for start in range(2):
        with HubInThread(tmp_path / "hub") as hub:
            if not start:
                upload(hub, "root", ROOT, verified=True)
                register(hub, "press-07")
            assert [each["name"] for each in request(hub, "GET", "/api/cas").body] == ["root"]
            assert by_mqtt(hub, "press-07", Certificate.made("press-07", issuer=ROOT).file(tmp_path)) == ACCEPTED
