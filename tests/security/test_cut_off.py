"""Who is cut when a credential changes: those who stand on it, at once, and nobody else."""

from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conversations.amqp_peer import AmqpPeer, condition, data, events_token
from conversations.certificates import Certificate, register
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, tls_socket
from hubkeep.model import IdentityChange
from hubkeep.store.writer import Writer
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp.performatives import Detach

ACCEPTED, REFUSED, DISABLED = (0x20, b"\0\0"), (0x20, b"\0\5"), (0x20, b"\0\3")


def keys_of(hub: HubInThread, device_id: str) -> dict[str, bytes]:
    hub.create_device(device_id)
    keys = request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["authentication"]["symmetricKey"]
    return {slot: b64decode(keys[f"{slot}Key"]) for slot in ("primary", "secondary")}


def rotate(hub: HubInThread, device_id: str, slot: str) -> None:
    body = {"policyKey": slot, "devices": [{"id": device_id}]}
    assert request(hub, "POST", f"/devices/keys/regenerate?{VERSION}", body).status == 200


def log_in(peer: MqttPeer, device_id: str, token: str | None, rest: str = "") -> tuple[int, bytes] | None:
    peer.send(connect(device_id, USER_NAME.format(host=peer.hub.host_name, client_id=device_id) + rest, token))
    return peer.read()


@pytest.mark.parametrize("used", ["primary", "secondary"])
def test_a_new_key_cuts_those_who_used_the_old_one_alone(shared_hub: HubInThread, device_id: str, used: str) -> None:
    keys, other = keys_of(shared_hub, device_id), {"primary": "secondary", "secondary": "primary"}[used]
    token = shared_hub.token(f"devices/{device_id}", key=keys[used])
    with MqttPeer(shared_hub) as mqtt, AmqpPeer(shared_hub).opened().authorised(token) as amqp:
        assert log_in(mqtt, device_id, token) == ACCEPTED
        amqp.attached(f"/devices/{device_id}/messages/events", handle=0)
        rotate(shared_hub, device_id, other)
        assert mqtt.is_open()
        assert amqp.outcome(amqp.transfer(0, data(b"on"))) == ("accepted", "")
        rotate(shared_hub, device_id, used)
        assert mqtt.is_closed()
        assert condition(amqp.expect(Detach).error) == "amqp:unauthorized-access"


def test_keys_that_change_places_cut_everybody(shared_hub: HubInThread, device_id: str) -> None:
    keys = keys_of(shared_hub, device_id)
    with MqttPeer(shared_hub) as peer:
        assert log_in(peer, device_id, shared_hub.token(f"devices/{device_id}", key=keys["primary"])) == ACCEPTED
        rotate(shared_hub, device_id, "swap")
        assert peer.is_closed()


def test_a_new_thumbprint_beside_the_old_one_cuts_nobody(
    shared_hub: HubInThread, device_id: str, tmp_path: Path
) -> None:
    old, new = Certificate.made("press"), Certificate.made("press")
    register(shared_hub, device_id, old.sha256)
    with MqttPeer(shared_hub, tls_socket(shared_hub, 8883, old.file(tmp_path))) as peer:
        assert log_in(peer, device_id, None) == ACCEPTED
        register(shared_hub, device_id, old.sha256, new.sha256, update=True)
        assert peer.is_open()
        register(shared_hub, device_id, new.sha256, new.sha256, update=True)
        assert peer.is_closed()


@pytest.mark.parametrize("change", ["disabled", "deleted", "credentials", "authority"])
def test_what_changes_between_proof_and_link_is_not_missed(
    shared_hub: HubInThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A model id is stored after the proof and before the link opens: the end of its write is the moment between."""
    hub, bus = shared_hub, shared_hub.hub._identities._bus
    name = f"between-{change}"
    root = Certificate.made(f"{name} root", ca=True)
    upload = {"certificate": root.pem, "isVerified": True}
    assert request(hub, "PUT", f"/api/cas/{name}", upload).status == 200
    register(hub, name)
    subject, payload = "identity.changed", IdentityChange(name, "", change)  # type: ignore[arg-type]
    if change == "authority":
        subject, payload = "authority.removed", name  # type: ignore[assignment]
    write, written = Writer.at_once, []  # what twins are written by

    async def write_and_tell(self: Writer, plan: Any) -> Any:
        result = await write(self, plan)
        written.append(result)  # others write as well
        bus.publish(subject, payload)
        return result

    certificate = Certificate.made(name, issuer=root).file(tmp_path)
    with MqttPeer(hub, tls_socket(hub, 8883, certificate)) as peer, monkeypatch.context() as patched:
        patched.setattr(Writer, "at_once", write_and_tell)
        assert log_in(peer, name, None, "&model-id=dtmi:a;1") == (DISABLED if change == "disabled" else REFUSED)
        assert peer.is_closed()
    assert written
    with MqttPeer(hub, tls_socket(hub, 8883, certificate)) as peer:
        assert log_in(peer, name, None) == ACCEPTED, "what was said of the moment before is over"


def test_a_policy_with_another_key_cuts_who_stands_on_it(device_id: str) -> None:
    with HubInThread() as hub:
        hub.create_device(device_id)
        policies = hub.hub._policies
        with (
            MqttPeer(hub) as by_policy,
            MqttPeer.logged_in(hub, f"{device_id}-own") as by_own_key,
            AmqpPeer(hub).opened().authorised(events_token(hub)) as reader,
            AmqpPeer(hub).opened().authorised(events_token(hub, "service")) as other_reader,
        ):
            assert log_in(by_policy, device_id, hub.token(policy="iothubowner")) == ACCEPTED
            partition = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
            for each in (reader, other_reader):
                each.attached(partition, handle=1, receiver=True)
            owner = policies.get("iothubowner")
            assert owner is not None
            hub.ask(policies.put(msgspec.structs.replace(owner, primary_key=b"n" * 32)))
            assert by_policy.is_closed()
            assert by_own_key.is_open()
            assert condition(reader.expect(Detach).error) == "amqp:unauthorized-access"
            assert other_reader.put_token(events_token(hub, "service")).status == 200
