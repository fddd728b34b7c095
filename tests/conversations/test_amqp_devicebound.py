"""Cloud-to-device messages and feedback over AMQP, with Qpid Proton on both ends."""

import json
import time
import uuid
from base64 import b64decode

import pytest
from proton import Delivery, Message, SSLDomain, symbol, timestamp, ubyte, ulong
from proton.utils import BlockingConnection, LinkDetached

from conversations.amqp_peer import AmqpPeer
from conversations.back_end import feedback, purge, send, send_all, statuses
from conversations.https_peer import VERSION, request
from conversations.mqtt_peer import MqttPeer, eventually, subscribe
from conversations.proton_peer import (
    PreSettled,
    Received,
    SettleSecond,
    bodies,
    device_connection,
    pump,
    service_connection,
)
from hubkeep.testing import HubInThread
from hubkeep.wire.amqp import ACCEPTED, rejected
from hubkeep.wire.amqp.performatives import Disposition, Transfer

REJECTED = rejected("amqp:not-allowed", "")


def waiting(hub: HubInThread, device_id: str) -> int:
    count: int = request(hub, "GET", f"/devices/{device_id}?{VERSION}").body["cloudToDeviceMessageCount"]
    return count


def source(device_id: str) -> str:
    return f"/devices/{device_id}/messages/devicebound"


# -- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("D-90", "D-96")
@pytest.mark.parametrize(
    "address", ["/devices/{}/messages/devicebound", "amqps://any.name/devices/{}/messages/deviceBound"]
)
def test_a_delivery_has_the_types_that_clients_insist_on(shared_hub: HubInThread, device_id: str, address: str) -> None:
    connection = device_connection(shared_hub, device_id)
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
        iothub_app_room="4",
        iothub_app_empty="",
    )
    received = Received(connection.create_receiver(address.format(device_id), credit=1))
    message = received.message
    lock_token = uuid.UUID(bytes=received.tag)
    annotations = message.annotations
    assert isinstance(annotations.pop(symbol("iothub-enqueuedtime")), timestamp)
    assert isinstance(annotations.pop(symbol("x-opt-sequence-number")), ulong)
    assert isinstance(deliveries := annotations.pop(symbol("iothub-deliverycount")), ubyte)
    assert deliveries == 0
    assert annotations == {symbol("x-opt-lock-token"): lock_token}
    assert (message.id, message.correlation_id, message.user_id) == ("m-1", "c-1", b"u-1")
    assert message.address == f"/devices/{device_id}/messages/devicebound"
    assert (message.content_type, message.content_encoding) == ("text/plain", "utf-8")
    assert message.expiry_time == 2208988800
    assert message.properties == {"room": "4", "empty": "", "iothub-ack": "full"}
    assert (received.body, message.inferred) == (b"open valve", True)
    connection.close()


@pytest.mark.spec("D-97", "L-D7")
@pytest.mark.parametrize("second", [False, True], ids=["settled", "rcv-settle-second"])
def test_the_four_outcomes(shared_hub: HubInThread, device_id: str, second: bool) -> None:
    connection = device_connection(shared_hub, device_id)
    options = [SettleSecond()] if second else []
    receiver = connection.create_receiver(source(device_id), credit=1, options=options)

    def settled(state: int) -> Received:
        receiver.flow(1)
        received = Received(receiver)
        received.settle(state, settled=not second)
        if second:
            assert received.wait_settled() == state
        return received

    for name in ("accepted", "rejected", "released"):
        send_all(shared_hub, device_id, name.encode(), iothub_ack="full", iothub_messageid=name)
    assert settled(Delivery.ACCEPTED).body == b"accepted"
    assert settled(Delivery.REJECTED).body == b"rejected"
    assert settled(Delivery.RELEASED).body == b"released"
    again = settled(Delivery.MODIFIED).message
    assert again.annotations[symbol("iothub-deliverycount")] == ubyte(1)
    last = settled(Delivery.ACCEPTED)
    assert last.body == b"released"
    assert last.message.annotations[symbol("iothub-deliverycount")] == ubyte(2)
    told = statuses(shared_hub, device_id, 3)
    assert told == {"accepted": "Success", "rejected": "Rejected", "released": "Success"}
    connection.close()


@pytest.mark.spec("L-L22", "L-D7")
def test_a_message_that_is_abandoned_too_often_is_dead_lettered(shared_hub: HubInThread, device_id: str) -> None:
    connection = device_connection(shared_hub, device_id)
    receiver = connection.create_receiver(source(device_id), credit=20)
    send_all(shared_hub, device_id, b"bad", iothub_ack="negative", iothub_messageid="bad")
    for count in range(10):
        received = Received(receiver)
        assert received.message.annotations[symbol("iothub-deliverycount")] == ubyte(count)
        received.settle(Delivery.RELEASED)
    assert statuses(shared_hub, device_id, 1) == {"bad": "DeliveryCountExceeded"}
    connection.close()


@pytest.mark.spec("L-A12", "L-D7")
@pytest.mark.parametrize("ending", ["detach", "session", "connection"])
def test_what_a_link_did_not_settle_is_back_at_once(shared_hub: HubInThread, device_id: str, ending: str) -> None:
    connection = device_connection(shared_hub, device_id)
    receiver = connection.create_receiver(source(device_id), credit=10)
    send_all(shared_hub, device_id, b"1", b"2", b"3")
    assert bodies(receiver, 3) == [b"1", b"2", b"3"]
    receiver.link.drain(0)
    receiver.fetcher.unsettled[1].update(Delivery.ACCEPTED)
    receiver.fetcher.unsettled[1].settle()
    pump(connection)
    connection.wait(lambda: receiver.link.credit == 0, timeout=10)
    assert eventually(lambda: waiting(shared_hub, device_id) == 2)
    if ending == "detach":
        receiver.close()
    elif ending == "session":
        receiver.link.session.close()
        pump(connection)
    else:
        connection.close()
    other = device_connection(shared_hub, device_id)
    receiver = other.create_receiver(source(device_id), credit=10)
    again = [Received(receiver) for _ in range(2)]
    assert [each.body for each in again] == [b"1", b"3"]
    assert all(each.message.annotations[symbol("iothub-deliverycount")] == ubyte(0) for each in again)
    other.close()


@pytest.mark.spec("D-97")
def test_a_lapsed_lock_cannot_be_settled(device_id: str) -> None:
    with HubInThread() as hub:
        connection = device_connection(hub, device_id)
        receiver = connection.create_receiver(source(device_id), credit=1, options=[SettleSecond()])
        send_all(hub, device_id, b"slow")
        received = Received(receiver)
        hub.clock.move(61)
        received.settle(Delivery.ACCEPTED, settled=False)
        assert received.wait_settled() == Delivery.REJECTED
        assert received.delivery.remote.condition.name == "com.microsoft:message-lock-lost"
        assert waiting(hub, device_id) == 1
        connection.close()


@pytest.mark.spec("L-A13")
def test_outcomes_for_what_is_not_unsettled_here_change_nothing(shared_hub: HubInThread, device_id: str) -> None:
    other = f"{device_id}-other"
    with AmqpPeer.device(shared_hub, other) as theirs, AmqpPeer.device(shared_hub, device_id) as peer:
        for each, name in ((theirs, other), (peer, device_id)):
            each.attached(source(name), handle=0, receiver=True)
            each.credit(0, 10)
        send_all(shared_hub, other, b"theirs")
        assert theirs.expect(Transfer).more is False
        send_all(shared_hub, device_id, b"1", b"2", b"3")
        one, two, three = (peer.expect(Transfer).delivery_id for _ in range(3))
        peer.send(Disposition(True, three + 1, 0xFFFFFFFF, True, ACCEPTED))  # nobody's yet
        peer.send(Disposition(True, three + 5, None, True, ACCEPTED), Disposition(True, two, one, True, ACCEPTED))
        peer.send(Disposition(False, one, three, True, ACCEPTED))  # of what the peer sent: nothing
        peer.send(Disposition(True, two, None, True, ACCEPTED), Disposition(True, two, None, True, REJECTED))
        assert eventually(lambda: waiting(shared_hub, device_id) == 2)
        peer.send(Disposition(True, 0, 0x7FFFFFFF, True, ACCEPTED))
        assert eventually(lambda: waiting(shared_hub, device_id) == 0)
        assert waiting(shared_hub, other) == 1
        send_all(shared_hub, device_id, b"4")
        assert peer.expect(Transfer).delivery_id == three + 1


def test_a_presettled_link_completes_at_send(shared_hub: HubInThread, device_id: str) -> None:
    connection = device_connection(shared_hub, device_id)
    receiver = connection.create_receiver(source(device_id), credit=1, options=[PreSettled()])
    send_all(shared_hub, device_id, b"1")
    assert Received(receiver).delivery is None
    assert eventually(lambda: waiting(shared_hub, device_id) == 0)
    connection.close()


def test_only_as_much_is_sent_as_there_is_credit(shared_hub: HubInThread, device_id: str) -> None:
    connection = device_connection(shared_hub, device_id)
    receiver = connection.create_receiver(source(device_id), credit=2)
    send_all(shared_hub, device_id, *(b"%d" % each for each in range(5)))
    assert bodies(receiver, 2) == [b"0", b"1"]
    send_all(shared_hub, device_id, b"5")
    assert len(receiver.fetcher.incoming) == 0
    receiver.flow(4)
    assert bodies(receiver, 4) == [b"2", b"3", b"4", b"5"]
    connection.close()


@pytest.mark.spec("D-98")
def test_a_newer_receiver_takes_over(shared_hub: HubInThread, device_id: str) -> None:
    first = device_connection(shared_hub, device_id)
    old = first.create_receiver(source(device_id), credit=10)
    send_all(shared_hub, device_id, b"1")
    assert bodies(old, 1) == [b"1"]
    second = device_connection(shared_hub, device_id)
    new = second.create_receiver(source(device_id), credit=10)
    with pytest.raises(LinkDetached) as stolen:
        old.receive(timeout=10)
    assert stolen.value.condition == "amqp:link:stolen"
    assert bodies(new, 1) == [b"1"]
    second.close()


def test_an_amqp_receiver_takes_over_from_mqtt_and_back(shared_hub: HubInThread, device_id: str) -> None:
    topic_filter = f"devices/{device_id}/messages/devicebound/#"
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(subscribe([(topic_filter, 1)]))
        assert peer.read() == (0x90, b"\0\1\1")
        connection = device_connection(shared_hub, device_id)
        receiver = connection.create_receiver(source(device_id), credit=10)
        assert peer.is_closed()
    with MqttPeer.logged_in(shared_hub, device_id) as peer:
        peer.send(subscribe([(topic_filter, 1)]))
        assert peer.read() == (0x90, b"\0\1\1")
        with pytest.raises(LinkDetached) as stolen:
            receiver.receive(timeout=10)
        assert stolen.value.condition == "amqp:link:stolen"


@pytest.mark.spec("D-91")
def test_a_device_receives_nobody_elses_messages(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(f"{device_id}-other")
    connection = device_connection(shared_hub, device_id)
    for address in (
        source(f"{device_id}-other"),
        source(f"{device_id}/modules/cam"),
        "/messages/serviceBound/feedback",
    ):
        with pytest.raises(LinkDetached) as refused:
            connection.create_receiver(address)
        assert refused.value.condition == "amqp:unauthorized-access"
    with pytest.raises(LinkDetached) as refused:
        connection.create_sender("/messages/devicebound")
    assert refused.value.condition == "amqp:unauthorized-access"


@pytest.mark.spec("D-92")
def test_a_large_message_comes_in_frames_that_the_client_takes(shared_hub: HubInThread, device_id: str) -> None:
    key = b64decode(shared_hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    domain = SSLDomain(SSLDomain.MODE_CLIENT)
    domain.set_trusted_ca_db(str(shared_hub.trust_bundle))
    connection = BlockingConnection(
        f"amqps://{shared_hub.host_name}:5671",
        timeout=10,
        ssl_domain=domain,
        user=f"{device_id}@sas.hub",
        password=shared_hub.token(f"devices/{device_id}", key=key),
        allowed_mechs="PLAIN",
        max_frame_size=4096,
    )
    sender = connection.create_sender(f"/devices/{device_id}/messages/events")
    sender.send(Message(body=b"y" * 200_000, inferred=True))
    send_all(shared_hub, device_id, b"z" * 65_000)
    receiver = connection.create_receiver(source(device_id), credit=1)
    assert bodies(receiver, 1) == [b"z" * 65_000]
    assert len(shared_hub.wait_for_events(1, device=device_id)[0]["body"]) == 200_000
    connection.close()


# -- back ends -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("L-D6", "L-L22", "S-98", "S-99")
def test_what_cannot_be_queued_is_rejected_and_the_link_goes_on(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    connection = service_connection(shared_hub)
    sender = connection.create_sender("amqps://any.name:5671/messages/deviceBound")
    to = source(device_id)

    def outcome(message: Message) -> str:
        delivery = sender.link.send(message)
        connection.wait(lambda: delivery.settled, timeout=10)
        if delivery.remote_state == Delivery.ACCEPTED:
            return "accepted"
        assert delivery.remote_state == Delivery.REJECTED
        condition = delivery.remote.condition
        assert "Tracking id" in condition.description
        assert set(condition.info) == {symbol("com.microsoft:tracking-id"), symbol("com.microsoft:error-code")}
        return str(condition.name)

    assert outcome(Message(body=b"x", inferred=True)) == "com.microsoft:argument-error"
    assert outcome(Message(address="/devices/x/messages/events", body=b"x")) == "com.microsoft:argument-error"
    assert outcome(Message(address=source("nobody"), body=b"x")) == "amqp:not-found"
    assert outcome(Message(address=to, body=b"x" * 65_537, inferred=True)) == "amqp:link:message-size-exceeded"
    assert outcome(Message(address=to, body=b"x" * 400_000, inferred=True)) == "amqp:link:message-size-exceeded"
    bad_ack = Message(address=to, body=b"x", inferred=True, properties={"iothub-ack": "maybe"})
    assert outcome(bad_ack) == "com.microsoft:argument-error"
    assert outcome(Message(address=to, body=b"x" * 65_000, inferred=True)) == "accepted"
    past = Message(address=to, body=b"late", inferred=True, id="late", properties={"iothub-ack": "full"})
    past.expiry_time = time.time() - 60
    assert outcome(past) == "accepted"
    assert statuses(shared_hub, device_id, 1) == {"late": "Expired"}
    assert [outcome(Message(address=to, body=b"x", inferred=True)) for _ in range(50)] == ["accepted"] * 49 + [
        "amqp:resource-limit-exceeded"
    ]
    assert purge(shared_hub, device_id).body == {
        "totalMessagesPurged": 50,
        "deviceId": device_id,
        "moduleId": None,
    }
    connection.close()


def test_bodies_and_values_of_other_kinds(shared_hub: HubInThread, device_id: str) -> None:
    device = device_connection(shared_hub, device_id)
    receiver = device.create_receiver(source(device_id), credit=10)
    connection = service_connection(shared_hub)
    sender = connection.create_sender("/messages/devicebound")
    identity = uuid.uuid4()
    properties = {"int": 5, "bool": True, "none": None, "a/b": "c&d=e+f g"}
    sender.send(
        Message(address=source(device_id), body="text", id=identity, correlation_id=identity, properties=properties)
    )
    received = Received(receiver)
    assert received.body == b"text"
    message = received.message
    assert (message.id, message.correlation_id) == (str(identity), str(identity))
    assert message.properties == {"int": "5", "bool": "true", "none": "", "a/b": "c&d=e+f g"}
    connection.close()
    device.close()


def test_an_id_that_is_percent_encoded_or_not(shared_hub: HubInThread) -> None:
    connection = service_connection(shared_hub)
    sender = connection.create_sender("/messages/devicebound")
    for device_id in ("a%20b", "a=b", "c%3Dd"):
        shared_hub.create_device(device_id)
    for to in (
        "/devices/a%20b/messages/devicebound",
        "/devices/a%3Db/messages/devicebound",
        "devices/c%3Dd/messages/devicebound",
    ):
        sender.send(Message(address=to, body=b"x", inferred=True))
    assert [waiting(shared_hub, each) for each in ("a%2520b", "a=b", "c%253Dd")] == [1, 1, 1]
    connection.close()


# -- feedback --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("S-101", "S-102", "S-100")
@pytest.mark.parametrize(
    "address", ["/messages/serviceBound/feedback", "amqps://any.name/messages/servicebound/feedback"]
)
def test_feedback_is_delivered_until_it_is_accepted(device_id: str, address: str) -> None:
    with HubInThread() as hub:
        device = device_connection(hub, device_id)
        send_all(hub, device_id, b"1", iothub_ack="full", iothub_messageid="m-1")
        receiver = device.create_receiver(source(device_id), credit=1)
        Received(receiver).settle(Delivery.ACCEPTED)
        assert eventually(lambda: waiting(hub, device_id) == 0)
        hub.clock.move(15)
        connection = service_connection(hub)
        receiver = connection.create_receiver(address, credit=1)
        received = Received(receiver)
        message = received.message
        assert len(received.tag) == 16
        assert list(message.annotations) == [symbol("iothub-enqueuedtime")]
        assert isinstance(message.annotations[symbol("iothub-enqueuedtime")], timestamp)
        assert message.content_type == "application/vnd.microsoft.iothub.feedback.json"
        assert message.user_id == hub.host_name.encode()
        assert message.id
        (record,) = json.loads(received.body)
        assert record.pop("enqueuedTimeUtc").endswith("Z")
        assert record.pop("deviceGenerationId").isdigit()
        assert record == {
            "originalMessageId": "m-1",
            "statusCode": "Success",
            "description": "Success",
            "deviceId": device_id,
        }
        received.settle(Delivery.RELEASED)
        receiver.flow(1)
        again = Received(receiver)
        assert again.message.id == message.id
        again.settle(Delivery.ACCEPTED)
        connection.close()
        path = f"/messages/serviceBound/feedback?{VERSION}"
        assert eventually(lambda: request(hub, "GET", path).status == 204)
        device.close()


def test_only_a_policy_with_service_connect_sends_and_hears(shared_hub: HubInThread) -> None:
    for policy in ("device", "registryRead", "registryReadWrite"):
        for open_link in ("create_sender", "create_receiver"):
            connection = service_connection(shared_hub, policy)
            address = "/messages/devicebound" if open_link == "create_sender" else "/messages/serviceBound/feedback"
            with pytest.raises(LinkDetached) as refusal:
                getattr(connection, open_link)(address)
            assert refusal.value.condition == "amqp:unauthorized-access"
            connection.close()


@pytest.mark.spec("S-103")
def test_a_purge_empties_the_queue_and_tells_it(shared_hub: HubInThread, device_id: str) -> None:
    shared_hub.create_device(device_id)
    send_all(shared_hub, device_id, b"x", iothub_ack="negative", iothub_messageid="asked")
    send_all(shared_hub, device_id, b"x", b"x")
    assert purge(shared_hub, device_id).body["totalMessagesPurged"] == 3
    assert purge(shared_hub, device_id).body["totalMessagesPurged"] == 0
    assert feedback(shared_hub, device_id, 1)[0]["statusCode"] == "Purged"
    assert purge(shared_hub, "nobody").code == "DeviceNotFound"
