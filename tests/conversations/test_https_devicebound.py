"""Cloud-to-device messages and feedback over HTTPS, by raw requests."""

from base64 import b64decode

import pytest

from conversations.back_end import purge, records, send, send_all, statuses
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import eventually
from hubkeep.testing import HubInThread
from hubkeep.wire import sas


class Device:
    """A device that polls over HTTPS."""

    def __init__(self, hub: HubInThread, device_id: str) -> None:
        self.hub, self.path = hub, f"/devices/{device_id}/messages/deviceBound"
        key = b64decode(sas.parse_connection_string(hub.create_device(device_id)).parts["SharedAccessKey"])
        self.token = hub.token(f"devices/{device_id}", key=key, seconds=10_000)

    def ask(self, method: str, rest: str = "", body: bytes | None = None, **headers: str) -> Answer:
        separator = "&" if "?" in rest else "?"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"{self.path}{rest}{separator}{VERSION}"
        return request(self.hub, method, path, body, token=self.token, headers=given)

    def receive(self, **headers: str) -> Answer:
        answer = self.ask("GET", **headers)
        assert answer.status == 200
        return answer


def token_of(answer: Answer) -> str:
    etag = answer.headers["etag"]
    assert etag[0] == etag[-1] == '"'
    return etag[1:-1]


@pytest.mark.spec("D-103", "D-C17")
def test_a_message_comes_with_all_its_headers(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    assert device.ask("GET").status == 204
    send(
        shared_hub,
        device_id,
        b"open valve",
        iothub_messageid="m-1",
        iothub_correlationid="c-1",
        iothub_userid="u-1",
        iothub_contenttype="text/plain",
        iothub_contentencoding="utf-8",
        iothub_expiry="2040-01-01T00:00:00Z",
        iothub_ack="full",
        iothub_app_Room="4",
        iothub_app_empty="",
    )
    answer = device.receive()
    headers = answer.headers
    assert len(token_of(answer)) == 32
    assert answer.body == b"open valve"
    assert headers["iothub-sequencenumber"].isdigit()
    assert headers["iothub-enqueuedtime"].endswith("Z")
    expected = {
        "iothub-messageid": "m-1",
        "iothub-correlationid": "c-1",
        "iothub-userid": "u-1",
        "iothub-to": f"/devices/{device_id}/messages/devicebound",
        "iothub-ack": "full",
        "iothub-expiry": "2040-01-01T00:00:00.0000000Z",
        "iothub-deliverycount": "0",
        "iothub-contenttype": "text/plain",
        "iothub-contentencoding": "utf-8",
        "contenttype": "text/plain",
        "contentencoding": "utf-8",
        "iothub-app-room": "4",
        "iothub-app-empty": "",
    }
    assert expected.items() <= headers.items()
    assert device.ask("GET").status == 204, "it is locked"


@pytest.mark.spec("D-104", "D-J15", "D-N16")
def test_complete_reject_and_abandon_in_every_spelling(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    rejections = ("?reject", "?reject=", "?reject=true", f"?{VERSION}&%3Freject=true")
    for number, spelling in enumerate(("", *rejections)):
        send_all(shared_hub, device_id, b"x", iothub_ack="full", iothub_messageid=f"{number}")
        assert device.ask("DELETE", f"/{token_of(device.receive())}{spelling}").status == 204
    send_all(shared_hub, device_id, b"again", iothub_ack="full", iothub_messageid="again")
    for count, (body, headers) in enumerate(((None, {}), (b"\0", {}), (b"", {"IfMatch": '"x"'}))):
        answer = device.receive()
        assert (answer.body, answer.headers["iothub-deliverycount"]) == (b"again", str(count))
        assert device.ask("POST", f"/{token_of(answer)}/abandon", body, **headers).status == 204
    quoted = {"If_Match": f'"{token_of(answer)}"'}
    assert device.ask("DELETE", f"/{token_of(device.receive())}", **quoted).status == 204
    assert statuses(shared_hub, device_id, 6) == {"0": "Success", "again": "Success"} | dict.fromkeys(
        ("1", "2", "3", "4"), "Rejected"
    )


@pytest.mark.spec("D-105")
def test_a_lapsed_unknown_or_settled_lock_is_412(device_id: str) -> None:
    with HubInThread() as hub:
        device = Device(hub, device_id)
        send_all(hub, device_id, b"x")
        lapsed = token_of(device.receive())
        hub.clock.move(60)
        current = token_of(device.receive())
        for token in (lapsed, "0" * 32, "never"):
            answer = device.ask("DELETE", f"/{token}")
            assert (answer.status, answer.code) == (412, "DeviceMessageLockLost")
            assert device.ask("POST", f"/{token}/abandon").status == 412
        other = Device(hub, f"{device_id}-other")
        assert other.ask("DELETE", f"/{current}").status == 412, "another device's lock"
        assert device.ask("DELETE", f"/{current}").status == 204
        assert device.ask("DELETE", f"/{current}").status == 412


def test_a_lapsed_lock_counts_as_a_delivery_where_the_setting_says_so(device_id: str) -> None:
    with HubInThread(count_lapsed_locks=True, limits={"cloud_to_device_deliveries": 2}) as hub:
        device = Device(hub, device_id)
        send_all(hub, device_id, b"x", iothub_ack="full", iothub_messageid="m-1")
        token = token_of(device.receive())
        hub.clock.move(60)
        assert device.ask("DELETE", f"/{token}").status == 412
        answers: list[Answer] = []

        def comes() -> bool:
            answers.append(device.ask("GET"))
            return answers[-1].status == 200

        assert eventually(comes)
        assert answers[-1].headers["iothub-deliverycount"] == "1", "it is handed out when it has been counted"
        hub.clock.move(60)
        assert statuses(hub, device_id, 1) == {"m-1": "DeliveryCountExceeded"}
        assert device.ask("GET").status == 204


@pytest.mark.parametrize(("asked", "seconds"), [("180", 180), ("1", 5), ("9999", 300)])
def test_the_lock_lasts_as_long_as_is_asked_for(device_id: str, asked: str, seconds: int) -> None:
    with HubInThread() as hub:
        device = Device(hub, device_id)
        send_all(hub, device_id, b"x")
        device.receive(IoTHub_MessageLockTimeout=asked)
        hub.clock.move(seconds - 2)
        assert device.ask("GET").status == 204
        hub.clock.move(2)
        assert device.ask("GET", f"?iothub-messagelocktimeout={asked}").status == 200
        hub.clock.move(seconds - 2)
        assert device.ask("GET").status == 204
        hub.clock.move(2)
        assert device.receive(iothub_messagelocktimeout="").body == b"x"
        assert device.ask("GET", iothub_messagelocktimeout="soon").code == "ArgumentInvalid"


@pytest.mark.spec("S-104")
def test_feedback_is_locked_completed_and_abandoned(device_id: str) -> None:
    path = "/messages/serviceBound/feedback"
    with HubInThread() as hub:
        hub.create_device(device_id)
        assert request(hub, "GET", f"{path}?{VERSION}").status == 204
        send_all(hub, device_id, b"x", iothub_ack="full", iothub_messageid="m-1")
        assert purge(hub, device_id).body["totalMessagesPurged"] == 1
        assert request(hub, "GET", f"{path}?{VERSION}").status == 204, "it waits for others"
        hub.clock.move(15)
        answers: list[Answer] = []

        def came() -> bool:
            answers.append(request(hub, "GET", f"{path}?{VERSION}"))
            return answers[-1].status == 200

        assert eventually(came)
        first = answers[-1]
        assert first.headers["content-type"] == "application/vnd.microsoft.iothub.feedback.json"
        assert [each["statusCode"] for each in records(first)] == ["Purged"]
        assert request(hub, "GET", f"{path}?{VERSION}").status == 204
        assert request(hub, "POST", f"{path}/{token_of(first)}/abandon?{VERSION}").status == 204
        stale = request(hub, "DELETE", f"{path}/{token_of(first)}?{VERSION}")
        assert (stale.status, stale.code) == (412, "DeviceMessageLockLost")
        second = request(hub, "GET", f"{path}?{VERSION}")
        assert second.headers["iothub-messageid"] == first.headers["iothub-messageid"]
        assert second.headers["iothub-deliverycount"] == "1"
        assert request(hub, "DELETE", f"{path}/{token_of(second)}?{VERSION}").status == 204
        assert request(hub, "GET", f"{path}?{VERSION}").status == 204


@pytest.mark.spec("L-D6", "L-L22")
def test_what_cannot_be_queued_is_refused(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    too_large = send(shared_hub, device_id, b"x" * 65_537)
    assert (too_large.status, too_large.code) == (413, "MessageTooLarge")
    assert send(shared_hub, device_id, b"x" * 65_536, iothub_app_a="1").code == "MessageTooLarge"
    assert send(shared_hub, "nobody").code == "DeviceNotFound"
    assert send(shared_hub, device_id, iothub_ack="maybe").code == "ArgumentInvalid"
    assert send(shared_hub, device_id, iothub_expiry="tomorrow").code == "ArgumentInvalid"
    past = send(shared_hub, device_id, iothub_expiry="2020-01-01", iothub_ack="full", iothub_messageid="past")
    assert past.status == 204
    assert statuses(shared_hub, device_id, 1) == {"past": "Expired"}
    assert send(shared_hub, device_id, b"x" * 65_536).status == 204
    send_all(shared_hub, device_id, *[b"x"] * 49)
    full = send(shared_hub, device_id)
    assert (full.status, full.code) == (403, "DeviceMaximumQueueDepthExceeded")
    path = f"/devices/{device_id}?{VERSION}"
    assert request(shared_hub, "GET", path).body["cloudToDeviceMessageCount"] == 50
    listed = request(shared_hub, "GET", f"/devices?{VERSION}").body
    assert [each["cloudToDeviceMessageCount"] for each in listed if each["deviceId"] == device_id] == [50]


@pytest.mark.spec("S-42")
def test_a_deleted_devices_messages_go_with_it(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    send_all(shared_hub, device_id, b"x")
    assert request(shared_hub, "DELETE", f"/devices/{device_id}?{VERSION}").status == 204
    device = Device(shared_hub, device_id)
    assert device.ask("GET").status == 204


def test_a_policy_receives_for_a_device(shared_hub: HubInThread, device_id: str) -> None:
    """As the command line of Azure does: a policy's token for the device's path."""
    shared_hub.create_device(device_id)
    send_all(shared_hub, device_id, b"x")
    path = f"/devices/{device_id}/messages/devicebound?{VERSION}"
    token = shared_hub.token(f"devices/{device_id}", policy="iothubowner")
    assert request(shared_hub, "GET", path, token=token).body == b"x"
    assert request(shared_hub, "GET", path, policy="service").status == 401


def test_a_device_sends_nobody_a_message(shared_hub: HubInThread, device_id: str) -> None:
    device = Device(shared_hub, device_id)
    assert device.ask("POST", body=b"x").status == 401
    assert request(shared_hub, "POST", f"{device.path}?{VERSION}", b"x", policy="device").code == (
        "IotHubUnauthorizedAccess"
    )
    assert request(shared_hub, "DELETE", f"/devices/{device_id}/commands?{VERSION}", policy="device").status == 401
    assert request(shared_hub, "GET", f"/messages/serviceBound/feedback?{VERSION}", policy="device").status == 401
