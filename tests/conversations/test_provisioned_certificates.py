"""Certificates that devices ask for when they register: raw requests, and logins with what was issued."""

import itertools
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from conversations.certificates import Certificate
from conversations.https_peer import VERSION, Answer, request
from conversations.own_certificates import csr
from conversations.provisioning_peer import derived, enrol, enrol_group, outcome, register, service
from hubkeep.testing import HubInThread

PRIMARY = b"p" * 32
BUNDLE_VERSION = "api-version=2021-11-01-preview"
PLAIN = serialization.NoEncryption()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    """One that tells the outcome at once."""
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(signing_request: Any) -> str:
    return b64encode(signing_request.public_bytes(serialization.Encoding.DER)).decode()


def ask(hub: HubInThread, device_id: str, signing_request: Any, key: bytes = PRIMARY, **more: Any) -> Answer:
    text = signing_request if isinstance(signing_request, str) else der(signing_request)
    return register(hub, device_id, key, {"registrationId": device_id, "csr": text}, **more)


def chain(state: Any) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(b64decode(each)) for each in state["issuedCertificateChain"]]


def file(folder: Path, key: Any, certificates: list[x509.Certificate]) -> Path:
    """Key, certificate and those between it and the root."""
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, PLAIN)
    path = folder / f"{certificates[0].serial_number:x}.pem"
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates[:2])
    path.write_bytes(private + pem)
    return path


def send(hub: HubInThread, device_id: str, *, token: str = "", certificate: Path | None = None) -> int:
    path = f"/devices/{device_id}/messages/events?{VERSION}"
    return request(hub, "POST", path, b"hello", token=token, certificate=certificate).status


def identity(hub: HubInThread, device_id: str) -> Any:
    answer = request(hub, "GET", f"/devices/{device_id}?{VERSION}")
    return answer.body if answer.status == 200 else None


@pytest.mark.spec("P-23")
def test_a_device_of_a_group_is_given_a_certificate(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    name, group = device_id[:60], f"g-{device_id}"
    enrol_group(hub, group)
    onboarding, key = derived(hub, group, name), new_key()
    wishes = (
        x509.SubjectAlternativeName([x509.DNSName("hub.example.net")]),
        x509.BasicConstraints(ca=True, path_length=3),
    )
    state = outcome(ask(hub, name, csr(key, name, *wishes), onboarding))
    issued = chain(state)
    assert (state["status"], state["deviceId"], len(issued) <= 3) == ("assigned", name, True)
    leaf = issued[0]
    assert leaf.subject.rfc4514_string() == f"CN={name}"
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )
    for lower, upper in itertools.pairwise(issued):
        lower.verify_directly_issued_by(upper)
    assert identity(hub, name)["authentication"]["type"] == "certificateAuthority"
    assert send(hub, name, certificate=file(tmp_path, key, issued)) == 204
    assert send(hub, name, token=hub.token(f"devices/{name}", key=onboarding)) == 401  # it is for provisioning alone


def test_a_group_key_never_opens_the_hub_again(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    enrol(hub, device_id)
    key = new_key()
    outcome(register(hub, device_id, PRIMARY))
    assert identity(hub, device_id)["authentication"]["type"] == "sas"
    shown = file(tmp_path, key, chain(outcome(ask(hub, device_id, csr(key, device_id)))))
    assert send(hub, device_id, certificate=shown) == 204
    again = outcome(register(hub, device_id, PRIMARY))
    assert (again["status"], "issuedCertificateChain" in again) == ("assigned", False)
    assert identity(hub, device_id)["authentication"]["type"] == "certificateAuthority"
    assert send(hub, device_id, certificate=shown) == 204
    other = new_key()
    newer = file(tmp_path, other, chain(outcome(ask(hub, device_id, csr(other, device_id)))))
    assert send(hub, device_id, certificate=newer) == 204
    # without its record the device is new to the service: the enrollment alone decides again
    assert service(hub, "DELETE", f"/registrations/{device_id}").status == 204
    outcome(register(hub, device_id, PRIMARY))
    assert identity(hub, device_id)["authentication"]["type"] == "sas"


def test_the_same_request_again_gets_the_same_certificate(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id, deviceId=f"{device_id}-at-hub")
    asked = csr(new_key(), device_id)
    first, again = (outcome(ask(hub, device_id, asked)) for _ in range(2))
    assert first["issuedCertificateChain"] == again["issuedCertificateChain"]
    assert chain(first)[0].subject.rfc4514_string() == f"CN={device_id}-at-hub"  # whom the hub knows


def refused_requests(device_id: str) -> dict[str, Any]:
    good = csr(new_key(), device_id).public_bytes(serialization.Encoding.DER)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device_id)])
    weak = x509.CertificateSigningRequestBuilder().subject_name(name)
    long = x509.SubjectAlternativeName([x509.DNSName("x" * 60)] * 150)
    return {
        "a bad signature": b64encode(good[:-1] + bytes([good[-1] ^ 1])).decode(),
        "RSA-1024": weak.sign(rsa.generate_private_key(65537, 1024), hashes.SHA256()),
        "another's name": csr(new_key(), "somebody-else"),
        "two names": csr(new_key(), [device_id, "somebody-else"]),
        "9 KB": csr(new_key(), device_id, long),
        "no request": "bm9uZQ==",
        "no base64": "-",
    }


@pytest.mark.spec("P-24")
def test_an_unusable_request_fails_and_changes_nothing(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    new = f"{device_id}-new"
    enrol(hub, new)
    outcome(register(hub, device_id, PRIMARY))
    before = identity(hub, device_id)
    for what, asked in refused_requests(device_id).items():
        state = outcome(ask(hub, device_id, asked))
        assert (state["status"], state["errorCode"] // 1000) == ("failed", 400), what
        assert identity(hub, device_id) == before, what
        assert outcome(ask(hub, new, asked))["status"] == "failed"
        assert identity(hub, new) is None, what
    assert send(hub, device_id, token=hub.token(f"devices/{device_id}", key=PRIMARY)) == 204


def test_the_key_of_another_device_is_refused(hub: HubInThread, device_id: str) -> None:
    key = new_key()
    for name in (device_id, f"{device_id}-2"):
        enrol(hub, name)
    outcome(ask(hub, device_id, csr(key, device_id)))
    state = outcome(ask(hub, f"{device_id}-2", csr(key, f"{device_id}-2")))
    assert (state["status"], state["errorCode"] // 1000) == ("failed", 409)
    assert identity(hub, f"{device_id}-2") is None


def test_an_identity_of_somebody_else_gets_no_certificate(hub: HubInThread, device_id: str) -> None:
    hub.create_device(device_id)
    enrol(hub, device_id)
    assert outcome(ask(hub, device_id, csr(new_key(), device_id)))["errorCode"] // 1000 == 409
    assert request(hub, "GET", f"/api/certificates?device={device_id}").body == []


def test_the_withdrawn_preview_has_names_of_its_own_and_tells_the_roots(
    hub: HubInThread, device_id: str, tmp_path: Path
) -> None:
    name = device_id[:60]
    root, key = Certificate.made("bundle root", ca=True), new_key()
    attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root.pem}}}}
    enrol_group(hub, f"g-{device_id}", attestation)
    vendor = Certificate.made(name, issuer=root).file(tmp_path)
    body = {"clientCertificateCsr": csr(key, name).public_bytes(serialization.Encoding.PEM).decode()}
    state = outcome(register(hub, name, None, body, certificate=vendor, version=BUNDLE_VERSION))
    issued = x509.load_pem_x509_certificates(state["issuedClientCertificate"].encode())
    assert "issuedCertificateChain" not in state
    assert send(hub, name, certificate=file(tmp_path, key, issued)) == 204
    assert send(hub, name, certificate=vendor) == 401
    bundle = state["trustBundle"]
    assert (bundle["id"], bundle["etag"][0], bundle["etag"][-1]) == ("hubkeep-servers", '"', '"')
    roots = x509.load_pem_x509_certificates(hub.trust_bundle.read_bytes())
    assert [x509.load_pem_x509_certificate(each["certificate"].encode()) for each in bundle["certificates"]] == roots
    prints = [each["metadata"]["sha256Thumbprint"] for each in bundle["certificates"]]
    assert prints == [each.fingerprint(hashes.SHA256()).hex().upper() for each in roots]
    assert "trustBundle" not in outcome(register(hub, name, None, certificate=vendor))
    kept = service(hub, "GET", f"/registrations/{name}").body
    assert "trustBundle" not in kept


def test_an_enrolment_names_the_authority(hub: HubInThread, device_id: str) -> None:
    name = device_id.strip("-").lower()[:40]
    assert request(hub, "POST", f"/api/cas/{name}/issuer", {}).status == 200
    body = {"registrationId": device_id, "attestation": {"type": "symmetricKey"}}
    for members in (
        {"credentialPolicyName": "nobody"},
        {"clientCertificateIssuancePolicy": {"certificateAuthorityName": "nobody"}},
    ):
        assert service(hub, "PUT", f"/enrollments/{device_id}", body | members).status == 400
    told = enrol(hub, device_id, credentialPolicyName=name)
    assert told["credentialPolicyName"] == name
    issued = chain(outcome(ask(hub, device_id, csr(new_key(), device_id))))
    assert issued[1].subject.rfc4514_string().startswith(f"CN={name} of ")


def test_only_enrolments_with_a_policy_are_answered_where_the_setting_says_so(tmp_path: Path) -> None:
    with HubInThread(tmp_path, provisioning={"answer_at_once": True, "issue_certificates": False}) as hub:
        enrol(hub, "press-07")
        state = outcome(ask(hub, "press-07", csr(new_key(), "press-07")))
        assert (state["status"], "issuedCertificateChain" in state) == ("assigned", False)
        assert identity(hub, "press-07")["authentication"]["type"] == "sas"


def test_a_request_that_needs_approval_is_told_when_to_come_again(hub: HubInThread, device_id: str) -> None:
    name = f"m{device_id.strip('-').lower()[:40]}"
    assert request(hub, "POST", f"/api/cas/{name}/issuer", {}).status == 200
    assert request(hub, "PATCH", f"/api/cas/{name}", {"manualApproval": True}).status == 200
    enrol(hub, device_id, credentialPolicyName=name)
    asked = csr(new_key(), device_id)
    waiting = ask(hub, device_id, asked)
    assert (waiting.status, waiting.headers["retry-after"], identity(hub, device_id)) == (429, "60", None)
    (found,) = [each for each in request(hub, "GET", "/api/certificates/requests").body if each["authority"] == name]
    assert request(hub, "POST", f"/api/certificates/requests/{found['id']}/approve").status == 200
    assert len(chain(outcome(ask(hub, device_id, asked)))) == 3
