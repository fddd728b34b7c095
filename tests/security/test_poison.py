"""A message that a surface cannot carry is refused when it is sent, so that it never stops the queue of its device."""

import contextlib
from base64 import b64decode

import pytest
from proton import Message
from proton.utils import SendException

from conversations.https_peer import VERSION, request
from conversations.proton_peer import service_connection
from hubkeep.testing import HubInThread

POISON = "a\r\nX-Evil: 1"


@pytest.mark.spec("L-R8", "L-H6")
@pytest.mark.parametrize(
    "members",
    [{"id": POISON}, {"properties": {"note": POISON}}, {"properties": {POISON: "b"}}, {"correlation_id": "a\0b"}],
    ids=["message id", "property", "property name", "NUL"],
)
def test_control_characters_from_an_amqp_sender_forge_no_header(
    shared_hub: HubInThread, device_id: str, members: dict[str, object]
) -> None:
    key = b64decode(shared_hub.create_device(device_id).rpartition("SharedAccessKey=")[2])
    address = f"/devices/{device_id}/messages/devicebound"
    connection = service_connection(shared_hub)
    sender = connection.create_sender("/messages/devicebound")
    with contextlib.suppress(SendException):
        sender.send(Message(body=b"x", address=address, **members))
    sender.send(Message(body=b"good", address=address))
    connection.close()
    token = shared_hub.token(f"devices/{device_id}", key=key)
    bodies = []
    while (answer := request(shared_hub, "GET", f"{address}?{VERSION}", token=token)).status == 200:
        assert not [name for name in answer.headers if name.startswith("x-evil")]
        bodies.append(answer.body)
        lock = answer.headers["etag"].strip('"')
        assert request(shared_hub, "DELETE", f"{address}/{lock}?{VERSION}", token=token).status == 204
    assert answer.status == 204
    assert bodies[-1] == b"good"
