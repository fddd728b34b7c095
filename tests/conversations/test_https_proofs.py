"""What a kept-alive connection remembers of a good credential opens nothing that the credential would not open anew."""

import base64
import gc
import os

import pytest

from conversations.https_peer import VERSION, Answer, Ask, kept_alive, request
from hubkeep.connection.https.exchange import Exchange
from hubkeep.testing import HubInThread


class Device:
    """A device that posts telemetry, and its back end's view of it."""

    def __init__(self, hub: HubInThread, device_id: str) -> None:
        self.hub, self.device_id = hub, device_id
        self.key = base64.b64decode(hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
        self.token = hub.token(f"devices/{device_id}", key=self.key)
        self.path = f"/devices/{device_id}?{VERSION}"
        self.events = f"/devices/{device_id}/messages/events?{VERSION}"

    def post(self, ask: Ask, token: str | None = None) -> int:
        return ask("POST", self.events, b"21.5", self.token if token is None else token).status

    def change(self, **members: object) -> Answer:
        found = request(self.hub, "GET", self.path).body
        return request(self.hub, "PUT", self.path, found | members, headers={"If-Match": "*"})


def test_nothing_of_a_request_waits_for_the_collector(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    gc.disable()
    try:
        with kept_alive(shared_hub) as ask:
            assert [device.post(ask) for _ in range(30)] == [204] * 30
        left = [each for each in gc.get_objects() if isinstance(each, Exchange)]
        assert len(left) < 5  # those of others
    finally:
        gc.enable()


@pytest.mark.spec("L-I2")
def test_a_disabled_device_is_refused_on_the_connection_that_it_used(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    with kept_alive(shared_hub) as ask:
        assert [device.post(ask) for _ in range(3)] == [204] * 3
        assert device.change(status="disabled").status == 200
        assert device.post(ask) == 401
        assert device.change(status="enabled").status == 200
        assert device.post(ask) == 204


@pytest.mark.spec("L-I3")
def test_a_deleted_device_and_replaced_keys_are_refused_on_the_connection_that_used_them(
    shared_hub: HubInThread, device_id: str
) -> None:
    device = Device(shared_hub, device_id)
    keys = {"primaryKey": base64.b64encode(os.urandom(32)).decode(), "secondaryKey": "c2Vjb25kYXJ5IHNlY29uZGFyeQ=="}
    with kept_alive(shared_hub) as ask:
        assert device.post(ask) == 204
        assert device.change(authentication={"type": "sas", "symmetricKey": keys}).status == 200
        assert device.post(ask) == 401
        renewed = shared_hub.token(f"devices/{device_id}", key=base64.b64decode(keys["primaryKey"]))
        assert device.post(ask, renewed) == 204
        assert request(shared_hub, "DELETE", device.path, headers={"If-Match": "*"}).status == 204
        assert device.post(ask, renewed) == 401


def test_a_module_is_refused_as_soon_as_its_device_is_disabled(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    module = f"/devices/{device_id}/modules/valve"
    body = {"deviceId": device_id, "moduleId": "valve"}
    made = request(shared_hub, "PUT", f"{module}?{VERSION}", body).body
    key = base64.b64decode(made["authentication"]["symmetricKey"]["primaryKey"])
    token = shared_hub.token(module[1:], key=key)
    with kept_alive(shared_hub) as ask:
        assert ask("POST", f"{module}/messages/events?{VERSION}", b"1", token).status == 204
        assert device.change(status="disabled").status == 200
        assert ask("POST", f"{module}/messages/events?{VERSION}", b"1", token).status == 401


@pytest.mark.spec("L-I4")
def test_a_good_credential_opens_nothing_for_another_one_on_the_same_connection(
    shared_hub: HubInThread, device_id: str
) -> None:
    device, other = Device(shared_hub, device_id), Device(shared_hub, f"{device_id}-2")
    with kept_alive(shared_hub) as ask:
        assert device.post(ask) == 204
        assert other.post(ask, device.token) == 401
        assert device.post(ask) == 204
        assert device.post(ask, "") == 401
        assert device.post(ask) == 204
        assert device.post(ask, device.token[:-1]) == 401
        assert device.post(ask) == 204
        module_events = f"/devices/{device_id}/modules/valve/messages/events?{VERSION}"
        assert ask("POST", module_events, b"1", device.token).status == 401
        assert ask("GET", f"/devices/{device_id}?{VERSION}", b"", device.token).status == 401


def test_a_policy_s_token_is_asked_for_its_permission_with_each_request(shared_hub: HubInThread) -> None:
    token = shared_hub.token(policy="registryRead")
    with kept_alive(shared_hub) as ask:
        assert ask("GET", f"/devices?{VERSION}", b"", token).status == 200
        assert ask("PUT", f"/devices/never?{VERSION}", {"deviceId": "never"}, token).status in {401, 403}
        assert ask("GET", f"/devices?{VERSION}", b"", token).status == 200
        assert ask("GET", f"/devices?{VERSION}", b"", "").status == 401


@pytest.mark.parametrize("end", ["regenerate", "delete", "narrow"])
def test_a_policy_that_changed_is_refused_on_the_connection_that_used_it(shared_hub: HubInThread, end: str) -> None:
    address = f"/api/policies/of-test-{end}"
    made = request(shared_hub, "PUT", f"{address}?{VERSION}", {"rights": "RegistryRead"})
    assert made.status == 200, made
    token = shared_hub.token(policy=f"of-test-{end}")
    with kept_alive(shared_hub) as ask:
        assert ask("GET", f"/devices?{VERSION}", b"", token).status == 200
        if end == "regenerate":
            request(shared_hub, "POST", f"{address}/regenerate?{VERSION}", {"policyKeyType": "primary"})
        elif end == "delete":
            request(shared_hub, "DELETE", f"{address}?{VERSION}")
        else:
            request(shared_hub, "PUT", f"{address}?{VERSION}", {"rights": "ServiceConnect"})
            shared_hub.clock.move(2)  # whoever is trusted is so for a second
        assert ask("GET", f"/devices?{VERSION}", b"", token).status in {401, 403}


def test_a_token_expires_on_the_connection_that_uses_it() -> None:
    with HubInThread() as hub:
        device = Device(hub, "press-07")
        token = hub.token("devices/press-07", key=device.key, seconds=30)
        with kept_alive(hub) as ask:
            assert device.post(ask, token) == 204
            hub.clock.move(3600)
            assert device.post(ask, token) == 401
            assert device.post(ask, hub.token("devices/press-07", key=device.key)) == 204
