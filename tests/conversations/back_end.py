"""What a back end does in these tests: sends to devices, reads what became of it. Over the service's HTTPS surface."""

import time
from typing import Any

from conversations.https_peer import VERSION, Answer, request
from hubkeep.testing import HubInThread


def send(hub: HubInThread, device_id: str, body: bytes = b"x", *, module: str = "", **headers: str) -> Answer:
    """headers: with underscores for hyphens: ``iothub_ack="full"``."""
    path = f"/devices/{device_id}" + (f"/modules/{module}" if module else "")
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(hub, "POST", f"{path}/messages/devicebound?{VERSION}", body, headers=given)


def send_all(hub: HubInThread, device_id: str, *bodies: bytes, **headers: str) -> None:
    for body in bodies:
        assert send(hub, device_id, body, **headers).status == 204


def purge(hub: HubInThread, device_id: str) -> Answer:
    return request(hub, "DELETE", f"/devices/{device_id}/commands?{VERSION}")


def feedback(hub: HubInThread, device_id: str, count: int, within: float = 10) -> list[dict[str, Any]]:
    """The records about one device; the time that records wait for others is made to pass."""
    started, found = time.monotonic(), []
    moved = started - 2
    while len(found) < count and time.monotonic() < started + within:
        if time.monotonic() > moved + 1.5:  # a record may have come after the last move
            moved = time.monotonic()
            hub.clock.move(15)
        answer = request(hub, "GET", f"/messages/serviceBound/feedback?{VERSION}")
        if answer.status == 204:
            time.sleep(0.05)
            continue
        token = answer.headers["etag"].strip('"')
        assert request(hub, "DELETE", f"/messages/serviceBound/feedback/{token}?{VERSION}").status == 204
        found += [each for each in records(answer) if each["deviceId"] == device_id]
    return found


def records(answer: Answer) -> list[dict[str, Any]]:
    import json

    found: list[dict[str, Any]] = json.loads(answer.body)
    return found


def statuses(hub: HubInThread, device_id: str, count: int) -> dict[str, str]:
    """Message id to what became of it."""
    return {each["originalMessageId"]: each["statusCode"] for each in feedback(hub, device_id, count)}
