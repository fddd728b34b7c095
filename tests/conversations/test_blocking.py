"""Blocking a device in one call: no path leads back, neither by its group nor by a certificate."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.test_certificate_commands import ok
from conversations.certificates import Certificate
from conversations.certificates import register as create
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer
from conversations.own_certificates import OwnCertificate
from conversations.provisioning_peer import derived, enrol, enrol_group, outcome, register, service
from hubkeep.testing import HubInThread
from security.test_cut_off import log_in
from security.test_posture import names
from security.test_thumbprints import ACCEPTED, REFUSED, by_mqtt


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread(provisioning={"answer_at_once": True}) as running:
        yield running


@pytest.mark.spec("P-33", "P-T15")
def test_every_path_of_a_device_is_closed_in_one_call(hub: HubInThread, device_id: str) -> None:
    group = f"g-{device_id}"
    enrol_group(hub, group)
    key = derived(hub, group, device_id)
    assert outcome(register(hub, device_id, key))["status"] == "assigned"
    with MqttPeer(hub) as peer:
        assert log_in(peer, device_id, hub.token(f"devices/{device_id}", key=key, seconds=600)) == ACCEPTED
        told = ok(hub, "device", "block", device_id, "--everywhere", "--reason", "stolen")
        assert f"enrollment {device_id} is disabled" in told
        assert peer.is_closed()
    assert outcome(register(hub, device_id, key))["status"] == "disabled", "its group lets it in no more"
    identity = request(hub, "GET", f"/devices/{device_id}?{VERSION}").body
    assert (identity["status"], identity["statusReason"]) == ("disabled", "stolen")
    assert names(hub, "PC14") == []
    # one half alone: the posture report says so
    assert service(hub, "DELETE", f"/enrollments/{device_id}").status == 204
    enrol(hub, device_id)
    assert names(hub, "PC14") == [device_id]
    ok(hub, "device", "block", device_id, "--everywhere")
    assert service(hub, "GET", f"/enrollments/{device_id}").body["provisioningStatus"] == "disabled"
    assert names(hub, "PC14") == []


def test_its_certificates_open_nothing_when_it_is_unblocked(hub: HubInThread, device_id: str, tmp_path: Path) -> None:
    shown = Certificate.made("a")
    create(hub, device_id, shown.sha256)
    issued = f"own-{device_id}"
    create(hub, issued)
    files = {device_id: shown.file(tmp_path), issued: OwnCertificate.issued(hub, issued).file(tmp_path)}
    for name, file in files.items():
        assert by_mqtt(hub, name, file) == ACCEPTED
        body = request(hub, "POST", f"/api/devices/{name}/block", {"reason": "keyCompromise"}).body
        assert body == {"deviceId": name, "status": "disabled", "enrollment": name, "denials": int(name == device_id)}
        ok(hub, "device", "unblock", name)
        assert by_mqtt(hub, name, file) == REFUSED
    assert all(hub.refusals(each, 1)[0].reason.startswith("denied: ") for each in files)


def test_what_cannot_be_blocked(hub: HubInThread, device_id: str) -> None:
    assert request(hub, "POST", f"/api/devices/{device_id}/block", {}).status == 404
    create(hub, device_id)
    assert request(hub, "POST", f"/api/devices/{device_id}/block", {"reason": "because"}).status == 400
