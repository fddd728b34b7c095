"""This hub as a back end of another one: identities and twins over its HTTPS API, with a policy's token.

Egress decides whether the other hub is reached, and its certificate is checked. Source: service-protocols 2.
"""

from base64 import b64encode
from typing import Any, Final
from urllib.parse import quote

import msgspec

from hubkeep.device.keys import key_from_text
from hubkeep.errors import AllocationFailed, BadRequest, EgressRefused, HubNotAuthorized
from hubkeep.limits import OTHER_HUB_ANSWER, OTHER_HUB_WITHIN
from hubkeep.model import Json, LinkedHub
from hubkeep.ports import Answered, Ask, Clock, FetchFailed
from hubkeep.wire import sas

_VERSION: Final = "api-version=2021-04-12"
_TOKEN_SECONDS: Final = 300
_HOST, _POLICY, _KEY = "HostName", "SharedAccessKeyName", "SharedAccessKey"


def host_of_connection(text: str) -> str:
    """See device.provisioning.linked_hubs.ReadConnection."""
    try:
        parts = sas.parse_connection_string(text).parts
    except ValueError as error:
        raise BadRequest(f"This is no connection string: {error}.") from None
    if not all(parts.get(each) for each in (_HOST, _POLICY, _KEY)):
        raise BadRequest("A hub is linked by the connection string of a shared access policy.")
    key_from_text(parts[_KEY], _KEY)
    host = parts[_HOST]
    if len(host) > 253 or not all(each.isascii() and (each.isalnum() or each in ".-") for each in host):
        raise BadRequest("The HostName of the connection string is a host's name.")
    return host


class HttpsOtherHubs:
    """See ports.OtherHubs."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask, self._clock = ask, clock

    async def identity(self, hub: LinkedHub, device_id: str) -> Json | None:
        return await self._read(hub, f"/devices/{quote(device_id, safe='')}")

    async def create(self, hub: LinkedHub, device_id: str, credentials: dict[str, Any], *, iot_edge: bool) -> None:
        document = {"deviceId": device_id, "status": "enabled", **_opened_by(credentials, iot_edge=iot_edge)}
        await self._write(hub, "PUT", f"/devices/{quote(device_id, safe='')}", document)

    async def update(self, hub: LinkedHub, found: Json, credentials: dict[str, Any], *, iot_edge: bool) -> None:
        device_id, etag = str(found.get("deviceId", "")), str(found.get("etag", ""))
        status = found.get("status", "enabled")  # a disabled one stays disabled
        document = {"deviceId": device_id, "status": status, **_opened_by(credentials, iot_edge=iot_edge)}
        await self._write(hub, "PUT", f"/devices/{quote(device_id, safe='')}", document, etag)

    async def twin(self, hub: LinkedHub, device_id: str) -> Json | None:
        found = await self._read(hub, f"/twins/{quote(device_id, safe='')}")
        if found is None:
            return None
        desired = dict(found.get("properties", {}).get("desired", {}))
        told = {name: value for name, value in desired.items() if not name.startswith("$")}
        return {"tags": found.get("tags", {}), "properties": {"desired": told}}

    async def put_twin(self, hub: LinkedHub, device_id: str, twin: Json) -> None:
        await self._write(hub, "PUT", f"/twins/{quote(device_id, safe='')}", twin, "*")

    async def delete(self, hub: LinkedHub, device_id: str) -> None:
        await self._write(hub, "DELETE", f"/devices/{quote(device_id, safe='')}", None, "*", also=(404,))

    async def _read(self, hub: LinkedHub, path: str) -> Json | None:
        answer = await self._asked(hub, "GET", path, None, "")
        if answer.status == 404:
            return None
        try:
            return msgspec.json.decode(_checked(hub, answer, ()).body, type=Json)
        except msgspec.DecodeError:
            raise AllocationFailed(reason=f"{hub.host_name} answered what is no JSON object") from None

    async def _write(
        self, hub: LinkedHub, method: str, path: str, document: Any, etag: str = "", also: tuple[int, ...] = ()
    ) -> None:
        _checked(hub, await self._asked(hub, method, path, document, etag), also)

    async def _asked(self, hub: LinkedHub, method: str, path: str, document: Any, etag: str) -> Answered:
        parts = sas.parse_connection_string(hub.connection).parts
        expiry = int(self._clock.now()) + _TOKEN_SECONDS
        token = sas.make(parts[_HOST], key_from_text(parts[_KEY], _KEY), expiry, parts[_POLICY])
        headers = {"Authorization": token, "Content-Type": "application/json; charset=utf-8"}
        if etag:
            headers["If-Match"] = etag if etag == "*" else f'"{etag.strip(chr(34))}"'
        body = b"" if document is None else msgspec.json.encode(document)
        url = f"https://{hub.host_name}{path}?{_VERSION}"
        try:
            return await self._ask(
                method, url, headers=headers, body=body, at_most=OTHER_HUB_ANSWER.value, within=OTHER_HUB_WITHIN.value
            )
        except FetchFailed as error:
            raise AllocationFailed(
                reason=f"the linked hub: {error}", remedy=f"see that {hub.host_name} serves"
            ) from None
        except EgressRefused as error:
            raise AllocationFailed(reason=f"the linked hub: {error.reason}", remedy=error.remedy) from None


def _checked(hub: LinkedHub, answer: Answered, also: tuple[int, ...]) -> Answered:
    """also: what is as good as done."""
    if answer.status in {401, 403}:
        raise HubNotAuthorized(
            reason=f"{hub.host_name} answered {answer.status} to the policy of its connection string",
            remedy=f"hubkeep enroll hub add {hub.name}, with a policy that holds RegistryWrite and ServiceConnect",
        )
    if not 200 <= answer.status < 300 and answer.status not in also:
        raise AllocationFailed(reason=f"{hub.host_name} answered {answer.status}")
    return answer


def _opened_by(credentials: dict[str, Any], *, iot_edge: bool) -> Json:
    """As the registry's API has it. credentials: see Identity."""
    keys = {"primaryKey": credentials["primary_key"], "secondaryKey": credentials["secondary_key"]}
    prints = {
        "primaryThumbprint": credentials["primary_thumbprint"],
        "secondaryThumbprint": credentials["secondary_thumbprint"],
    }
    authentication = {
        "type": credentials["authentication"],
        "symmetricKey": {name: b64encode(key).decode() if key else None for name, key in keys.items()},
        "x509Thumbprint": prints,
    }
    return {"authentication": authentication, "capabilities": {"iotEdge": iot_edge}}
