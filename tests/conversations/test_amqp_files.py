"""File notifications over AMQP, with Qpid Proton as the back end."""

import json

import pytest
from proton import Delivery, symbol, timestamp
from proton.utils import LinkDetached

from conversations.file_uploads import begin, notices, notify, put_blob, url
from conversations.proton_peer import Received, service_connection
from hubkeep.testing import HubInThread


def upload(hub: HubInThread, device_id: str, name: str) -> None:
    info = begin(hub, device_id, name)
    assert put_blob(hub, url(info), name.encode()).status == 201
    assert notify(hub, device_id, info["correlationId"]).status == 204


@pytest.mark.parametrize(
    "address",
    [
        "/messages/serviceBound/filenotifications",
        "messages/servicebound/fileuploadnotifications",
        "amqps://any.name/messages/servicebound/filenotifications",
    ],
)
def test_a_notification_is_delivered_until_it_is_accepted(device_id: str, address: str) -> None:
    with HubInThread() as hub:
        connection = service_connection(hub)
        receiver = connection.create_receiver(address, credit=1)
        upload(hub, device_id, "a b.txt")
        received = Received(receiver)
        message = received.message
        assert len(received.tag) == 16
        assert list(message.annotations) == [symbol("iothub-enqueuedtime")]
        assert isinstance(message.annotations[symbol("iothub-enqueuedtime")], timestamp)
        assert message.content_type == "application/vnd.microsoft.iothub.filenotification.json"
        assert message.id
        notice = json.loads(received.body)
        assert notice.pop("enqueuedTimeUtc").endswith("Z")
        assert notice.pop("lastUpdatedTime").endswith("+00:00")
        assert notice == {
            "deviceId": device_id,
            "blobUri": f"https://{hub.host_name}/uploads/{device_id}/a%20b.txt",
            "blobName": f"{device_id}/a b.txt",
            "blobSizeInBytes": 7,
        }
        received.settle(Delivery.RELEASED)
        receiver.flow(1)
        again = Received(receiver)
        assert again.message.id == message.id
        again.settle(Delivery.ACCEPTED)
        upload(hub, device_id, "c")
        receiver.flow(1)
        other = Received(receiver)
        assert json.loads(other.body)["blobName"] == f"{device_id}/c"
        other.settle(Delivery.REJECTED)
        connection.close()
        assert notices(hub, device_id) == []


def test_a_notification_ends_by_its_deliveries_or_its_time(device_id: str) -> None:
    with HubInThread(limits={"file_notification_deliveries": 2}) as hub:
        upload(hub, device_id, "a")
        connection = service_connection(hub)
        Received(connection.create_receiver("/messages/servicebound/filenotifications", credit=1))
        connection.close()  # unsettled: it comes again, and that does not count
        connection = service_connection(hub)
        receiver = connection.create_receiver("/messages/servicebound/filenotifications", credit=1)
        for credit in (1, 0):
            Received(receiver).settle(Delivery.RELEASED)
            receiver.flow(credit)
        assert notices(hub, device_id) == []  # abandoned as often as it may be
        upload(hub, device_id, "b")
        hub.clock.move(3601)
        assert notices(hub, device_id) == []  # expired
        connection.close()


def test_only_a_policy_with_service_connect_hears_of_files(shared_hub: HubInThread) -> None:
    for policy in ("device", "registryReadWrite"):
        connection = service_connection(shared_hub, policy)
        with pytest.raises(LinkDetached, match="unauthorized"):
            connection.create_receiver("/messages/servicebound/filenotifications")
        connection.close()
