"""The provisioning service as back ends and devices see it over HTTPS, request by request."""

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from conversations.https_peer import Answer, request
from hubkeep.testing import HubInThread
from hubkeep.wire import sas

SERVICE_VERSION = "api-version=2021-10-01"
DEVICE_VERSION = "api-version=2019-03-31"
OWNER = "provisioningserviceowner"
FAR = 4_000_000_000
GROUP_KEYS = {
    "primaryKey": b64encode(bytes(range(64))).decode(),
    "secondaryKey": b64encode(bytes(range(64, 128))).decode(),
}


def service(
    hub: HubInThread, method: str, path: str, body: Any = None, *, policy: str = OWNER, **headers: str
) -> Answer:
    """headers: with underscores for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(hub, method, f"{path}?{SERVICE_VERSION}", body, policy=policy, headers=given)


def symmetric(primary: bytes = b"p" * 32, secondary: bytes = b"s" * 32) -> dict[str, Any]:
    keys = {"primaryKey": b64encode(primary).decode(), "secondaryKey": b64encode(secondary).decode()}
    return {"type": "symmetricKey", "symmetricKey": keys}


def enrol(
    hub: HubInThread, registration_id: str, attestation: Any = None, *, if_match: str = "", **members: Any
) -> Any:
    """An individual enrolment, by default with two known keys."""
    body = {"registrationId": registration_id, "attestation": attestation or symmetric(), **members}
    headers = {"If_Match": if_match} if if_match else {}
    answer = service(hub, "PUT", f"/enrollments/{registration_id}", body, **headers)
    assert answer.status == 200, answer
    return answer.body


def enrol_group(hub: HubInThread, group_id: str, attestation: Any = None, *, if_match: str = "", **members: Any) -> Any:
    """A group; attestation: none for keys of its own, else symmetricKey with these keys or x509."""
    body = {"enrollmentGroupId": group_id, "attestation": attestation or {"type": "symmetricKey"}, **members}
    headers = {"If_Match": if_match} if if_match else {}
    answer = service(hub, "PUT", f"/enrollmentGroups/{group_id}", body, **headers)
    assert answer.status == 200, answer
    return answer.body


def derived(hub: HubInThread, group_id: str, registration_id: str, which: str = "primaryKey") -> bytes:
    """What a device of the group is given, by the hub's own command."""
    answer = request(hub, "POST", f"/api/enrollmentgroups/{group_id}/keys/{registration_id}", policy=OWNER)
    assert answer.status == 200, answer
    return b64decode(answer.body[which])


def token(
    hub: HubInThread, registration_id: str, key: bytes, *, expiry: int = FAR, policy: str = "registration"
) -> str:
    return sas.make(f"{hub.id_scope}/registrations/{registration_id}", key, expiry, policy)


def register(
    hub: HubInThread,
    registration_id: str,
    key: bytes | None = None,
    body: Any = None,
    *,
    by: str = "",
    scope: str = "",
    certificate: Path | None = None,
    version: str = DEVICE_VERSION,
) -> Answer:
    """by: a token, instead of one made with ``key``."""
    shown = by or ("" if key is None else token(hub, registration_id, key))
    path = f"/{scope or hub.id_scope}/registrations/{registration_id}/register?{version}"
    return request(hub, "PUT", path, body, token=shown, certificate=certificate)


def outcome(answer: Answer) -> dict[str, Any]:
    """The registration state of an answer that has one."""
    assert answer.status == 200, answer
    state: dict[str, Any] = answer.body["registrationState"]
    assert answer.body["status"] == state["status"]
    return state
