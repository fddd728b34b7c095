"""Devices that were cut off do not come back by registering: block lists, the deny-list, revocation by others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conversations.certificates import Certificate
from conversations.https_peer import Answer, request
from conversations.provisioning_peer import derived, enrol_group, outcome, register
from hubkeep.testing import HubInThread
from security.test_foreign_revocation import authority, list_of, put_list


@pytest.fixture(scope="module")
def plant() -> Iterator[HubInThread]:
    with HubInThread(provisioning={"answer_at_once": True}) as hub:
        yield hub


def reason(hub: HubInThread, answer: Answer) -> str:
    (refusal,) = hub.refusals(answer.body["trackingId"])
    return str(refusal.reason)


def rule(hub: HubInThread, name: str, **wanted: Any) -> None:
    assert request(hub, "PUT", f"/api/access/{name}", wanted, headers={"If-Match": "*"}).status == 200


def test_a_blocked_device_does_not_register(plant: HubInThread) -> None:
    enrol_group(plant, "keys")
    key = derived(plant, "keys", "press-01")
    rule(plant, "stolen", verdict="block", devices=["press-01"])
    refused = register(plant, "press-01", key)
    assert (refused.status, refused.body["message"]) == (401, "Unauthorized")
    assert "blocked by 'stolen'" in reason(plant, refused)
    rule(plant, "hall", verdict="allow", condition="tags.hall = 3")  # which a new device cannot meet yet
    other = derived(plant, "keys", "press-02")
    assert outcome(register(plant, "press-02", other))["status"] == "assigned"
    assert register(plant, "press-01", key).status == 401
    for name in ("stolen", "hall"):
        assert request(plant, "DELETE", f"/api/access/{name}").status == 204
    assert outcome(register(plant, "press-01", key))["status"] == "assigned"


def test_a_revoked_certificate_does_not_register(plant: HubInThread, tmp_path: Path) -> None:
    root = Certificate.made("vendor", ca=True)
    authority(plant, "vendor", root)
    references = {"type": "x509", "x509": {"caReferences": {"primary": "vendor"}}}
    enrol_group(plant, "vendor-group", references)
    one, two = (Certificate.made(name, issuer=root) for name in ("mill-1", "mill-2"))
    assert put_list(plant, "vendor", list_of(root, one)).status == 200
    refused = register(plant, "mill-1", certificate=one.file(tmp_path))
    assert refused.status == 401
    assert "revoked" in reason(plant, refused)
    assert outcome(register(plant, "mill-2", certificate=two.file(tmp_path)))["status"] == "assigned"
    denial = {"kind": "cert", "value": two.sha256, "reason": "keyCompromise"}
    assert request(plant, "POST", "/api/denials", denial).status == 200
    assert reason(plant, register(plant, "mill-2", certificate=two.file(tmp_path))).startswith("denied")
