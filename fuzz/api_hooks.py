"""What Schemathesis is told of the hub: addresses that are there, media types, and that a refusal changes nothing."""

import http.client
import json
import os
import re
import ssl
import zlib
from typing import Any

import schemathesis

VERSION = "api-version=2021-04-12"
THERE = {
    "deviceId": "press-07",
    "moduleId": "vision",
    "jobId": "night",
    "configurationId": "tune",
    "name": "readers",
    "command": "reboot",
    "component": "lamp",
    "registrationId": "press-09",
    "enrollmentGroupId": "line-1",
}
SUBJECTS = {"/devices/{deviceId}": ("deviceId",), "/devices/{deviceId}/modules/{moduleId}": ("deviceId", "moduleId")}
# What is kept, but for what changes by itself: messages expire, jobs and configurations go on.
KEPT = (
    *(f"/devices?{VERSION}", f"/configurations?{VERSION}", "/api/cas", "/api/events/groups"),
    *(f"/enrollments/press-09?{VERSION}", f"/enrollmentGroups/line-1?{VERSION}"),
)
PASSING = re.compile(
    r'"(lastActivityTime|connectionState|connectionStateUpdatedTime|cloudToDeviceMessageCount|systemMetrics|metrics)":'
    r'(\{(\{[^}]*\}|[^{}])*\}|"[^"]*"|[0-9]+)'
)
# each record is carried out or refused by itself
IN_PART = {"/devices", "/devices/keys/regenerate", "/enrollments", "/enrollmentgroups"}

schemathesis.serializer.alias("application/vnd.microsoft.iothub.json", "application/json")
for binary in ("application/pkcs10", "application/ocsp-request", "application/pkix-crl"):
    schemathesis.serializer.alias(binary, "application/octet-stream")


@schemathesis.deserializer("application/vnd.microsoft.iothub.feedback.json", "application/octet-stream")
def from_json(_context: Any, response: Any) -> Any:
    return json.loads(response.content)


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    """Half of the requests go to what is there, or nearly all would end with 404."""
    if path_parameters and path_parameters.get("name") == "everything":
        return {**path_parameters, "name": THERE["name"]}  # these requests are signed with that policy
    if path_parameters and zlib.crc32(repr(path_parameters).encode()) % 2:
        return {name: THERE.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """A body tells the ids of its address, where it tells ids at all."""
    for name in SUBJECTS.get(case.path, ()):
        if case.method == "PUT" and isinstance(case.body, dict) and isinstance(case.body.get(name), str):
            case.body[name] = case.path_parameters[name]


class Kept:
    """The hub's state as it was after the last request that was carried out."""

    def __init__(self) -> None:
        context = ssl.create_default_context(cafile=os.environ["HUB_TRUST"])
        self._connection = http.client.HTTPSConnection(os.environ["HUB"], context=context, timeout=30)
        self.state = self.now()

    def now(self) -> list[str]:
        return [PASSING.sub("", self._read(path)) for path in KEPT]

    def _read(self, path: str) -> str:
        try:
            self._connection.request("GET", path, headers={"Authorization": os.environ["HUB_TOKEN"]})
            response = self._connection.getresponse()
        except (http.client.HTTPException, OSError):  # it was idle for too long
            self._connection.close()
            self._connection.request("GET", path, headers={"Authorization": os.environ["HUB_TOKEN"]})
            response = self._connection.getresponse()
        assert response.status in {200, 404}, path
        content = response.read().decode()
        return content if response.status == 200 else "not there"  # refusals differ by their tracking ids


kept: list[Kept] = []


@schemathesis.check
def a_refusal_changes_nothing(_context: Any, response: Any, case: Any) -> None:
    if case.method == "GET" and kept:
        return
    if not kept:
        kept.append(Kept())
    before, kept[0].state = kept[0].state, kept[0].now()
    if response.status_code >= 400 and case.path not in IN_PART and before != kept[0].state:
        raise AssertionError(f"{response.status_code}, and yet the state changed:\n{before}\n{kept[0].state}")
