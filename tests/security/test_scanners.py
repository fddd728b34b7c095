"""What sslyze finds: nothing to mend by default, and exactly the old versions where they are switched on by name."""

from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from conversations.https_peer import VERSION, request
from hubkeep.testing import HubInThread
from security.scanners import SSLYZE, VERSIONS_ALONE, Scan, scan

PORTS: Final = (443, 8883, 5671)
FORWARD_SECRET: Final = {
    f"TLS_ECDHE_{kind}_WITH_{cipher}"
    for kind in ("ECDSA", "RSA")
    for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
}
# what the scanner would have otherwise, and why it stays
ALLOWED: Final = {
    "tls_curves": (
        "TLS curves {'secp521r1'} are supported, but should be rejected.",
        "TLS 1.2 takes a client certificate only if its curve is among the groups, and devices have P-521 keys (P-V2)",
    ),
}

pytestmark = pytest.mark.skipif(not SSLYZE.exists(), reason="sslyze is not installed")


@pytest.fixture(scope="module")
def scans() -> Iterator[Mapping[int, Scan]]:
    with HubInThread() as hub:
        yield scan(hub, PORTS)


@pytest.mark.spec("D-1", "L-T9", "P-T17", "P-T20")
@pytest.mark.parametrize("port", PORTS)
def test_the_scanner_finds_nothing_to_mend(scans: Mapping[int, Scan], port: int) -> None:
    found = scans[port].results
    assert scans[port].objections == {name: told for name, (told, _) in ALLOWED.items()}
    assert scans[port].versions() == ["TLS 1.2", "TLS 1.3"]
    assert set(scans[port].suites("tls_1_2")) == FORWARD_SECRET
    assert not found["tls_compression"]["supports_compression"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert found["session_renegotiation"]["supports_secure_renegotiation"]
    assert found["robot"]["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    assert found["tls_extended_master_secret"]["supports_ems_extension"]
    assert found["session_resumption"]["session_id_resumption_result"] == "NOT_SUPPORTED"
    assert found["session_resumption"]["tls_ticket_resumption_result"] == "NOT_SUPPORTED"


def test_browsers_are_told_to_show_nothing_of_it(shared_hub: HubInThread) -> None:
    for path in ("/", "/api/trust-bundle", f"/devices?{VERSION}"):
        headers = request(shared_hub, "GET", path).headers
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        local = request(shared_hub, "GET", path, headers={"Host": "localhost:443"}).headers
        assert "strict-transport-security" not in local, "other servers on a developer's machine speak HTTP"


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.spec("P-T37")
def test_both_chains_lead_to_the_root_that_clients_trust(scans: Mapping[int, Scan], port: int) -> None:
    found = scans[port].results["certificate_info"]["certificate_deployments"]
    kinds = {each["received_certificate_chain"][0]["public_key"]["algorithm"] for each in found}
    assert len(kinds) == 2
    for each in found:
        ours = [one for one in each["path_validation_results"] if one["trust_store"]["name"] == "Supplied CA file"]
        assert ours
        assert all(one["was_validation_successful"] for one in ours)
        assert each["received_chain_has_valid_order"]
        assert not each["received_chain_contains_anchor_certificate"]


def test_what_it_asks_by_http(scans: Mapping[int, Scan]) -> None:
    assert not scans[443].results["tls_1_3_early_data"]["supports_early_data"]
    header = scans[443].results["http_headers"]["strict_transport_security_header"]
    assert header["max_age"] >= 180 * 86_400


def test_old_versions_are_there_exactly_where_they_were_switched_on_by_name() -> None:
    with HubInThread(tls={"old_versions": {"mqtt": "1.0", "amqp": "1.1"}}) as hub:
        found = scan(hub, PORTS, VERSIONS_ALONE)
    assert found[443].versions() == ["TLS 1.2", "TLS 1.3"]
    assert found[5671].versions() == ["TLS 1.1", "TLS 1.2", "TLS 1.3"]
    assert found[8883].versions() == ["TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3"]
    for port, version in ((8883, "tls_1_0"), (8883, "tls_1_1"), (5671, "tls_1_1")):
        suites = found[port].suites(version)
        assert suites
        assert all(each.startswith("TLS_ECDHE_") and "_AES_" in each and each.endswith("_SHA") for each in suites)
