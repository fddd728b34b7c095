"""Derived keys, signatures and allocation as provisioning-and-pki 1.9 and 2.4 print them."""

import ipaddress
from base64 import b64decode, b64encode
from typing import Any

import pytest

from hubkeep.device.keys import derived_key
from hubkeep.device.provisioning import tpm_blob
from hubkeep.device.provisioning.allocation import Allocation, Latencies, hashed, score
from hubkeep.errors import NoHub
from hubkeep.model import Attestation, Enrolment, LinkedHub
from hubkeep.wire import sas
from vectors.reading import load

VECTORS = load("provisioning")
HUBS = [LinkedHub(host_name=name, weight=weight) for name, weight in VECTORS["hashed allocation"]["hubs"].items()]
ANYBODY = Enrolment(id="x", is_group=False, attestation=Attestation(type="symmetricKey"))


def test_derived_keys() -> None:
    given = VECTORS["derived keys"]
    for case in given["cases"]:
        assert b64encode(derived_key(b64decode(given[case["group"]]), case["id"])).decode() == case["key"]


def test_signatures() -> None:
    given = VECTORS["signatures"]
    for case in given["cases"]:
        made = sas.signature(case["sr"], given["se"], b64decode(given["key"]))
        assert b64encode(made).decode() == case["sig"]


@pytest.mark.spec("P-31")
def test_hashed_allocation() -> None:
    for case in VECTORS["hashed allocation"]["cases"]:
        assert hashed(case["id"], HUBS).host_name == case["hub"]
        assert [score(case["id"], each) for each in HUBS] == pytest.approx(case["scores"], abs=0.001)
    more = [*HUBS, LinkedHub(host_name="hub4.example")]
    for number in range(500):
        before, after = hashed(f"d-{number}", HUBS), hashed(f"d-{number}", more)
        assert after in {before, more[-1]}
    assert {hashed(f"d-{number}", more).host_name for number in range(500)} == {each.host_name for each in more}


def test_the_nearest_hub_by_network() -> None:
    def latencies(network: str, **to: float) -> Latencies:
        return Latencies(ipaddress.ip_network(network), {f"{name}.example": ms for name, ms in to.items()})

    table = [latencies("10.0.0.0/8", hub1=80, hub2=20), latencies("10.9.0.0/16", hub1=5, hub3=5)]
    allocation = Allocation(HUBS, "geoLatency", table)
    assert {allocation.choose(ANYBODY, f"d-{each}", "10.1.1.1") for each in range(50)} == {"hub2.example"}
    assert {allocation.choose(ANYBODY, f"d-{each}", "10.9.1.1") for each in range(50)} == {
        "hub1.example",
        "hub3.example",
    }
    assert {allocation.choose(ANYBODY, f"d-{each}", "192.0.2.1") for each in range(50)} == {
        each.host_name for each in HUBS
    }


def test_hubs_that_an_enrolment_names() -> None:
    fields: dict[str, Any] = {"id": "x", "is_group": False, "attestation": Attestation(type="symmetricKey")}
    one = Enrolment(**fields, hubs=("HUB2.example",), allocation="static")
    assert Allocation(HUBS).choose(one, "d", "") == "hub2.example"
    with pytest.raises(NoHub):
        Allocation(HUBS).choose(Enrolment(**fields, hubs=("elsewhere",)), "d", "")
    idle = [LinkedHub(host_name="hub1.example", applies=False)]
    with pytest.raises(NoHub):
        Allocation(idle).choose(ANYBODY, "d", "")
    assert Allocation(idle).choose(Enrolment(**fields, hubs=("hub1.example",), allocation="static"), "d", "")


def test_what_a_tpm_opens() -> None:
    given = {name: bytes.fromhex(text) for name, text in VECTORS["tpm"].items()}
    key, storage_root_name = bytes(range(32)), b"\x00\x0b" + b"\xaa" * 32
    using = tpm_blob.Randomness(inner=key[:16], seed1=key, seed2=key, seed_value=bytes(range(32, 64)))
    assert tpm_blob.kdfa(key, b"STORAGE", storage_root_name, 128) == given["storage key"]
    assert tpm_blob.kdfa(key, b"INTEGRITY", b"", 256) == given["integrity key"]
    public = tpm_blob.hmac_public(key, using.seed_value)
    assert public == bytes.fromhex("0008000b0004004000000005000b0020") + given["unique"]
    assert tpm_blob.named(public) == given["id name"]
    assert tpm_blob.inner_wrapped(key, using, given["id name"]) == given["inner wrapped"]
    assert tpm_blob.identity_object(using.seed1, using.inner, storage_root_name) == given["identity object"]
    assert tpm_blob.duplicate(key, using) == given["duplicate"]
