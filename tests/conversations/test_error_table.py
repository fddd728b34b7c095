"""Every refusal that a back end or a device can meet over HTTPS: status, header, body, and the number behind it."""

import concurrent.futures
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from conversations.amqp_peer import device_token
from conversations.certificates import Certificate
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import MqttPeer, subscribe
from hubkeep.causes import CAUSES
from hubkeep.errors import ON_WIRE
from hubkeep.testing import HubInThread

# service-protocols 2.16, device-protocols 5.7: name to number and status.
DOCUMENTED: Final = {
    "InvalidProtocolVersion": (400001, 400),
    "ArgumentInvalid": (400004, 400),
    "IotHubFormatError": (400006, 400),
    "DeviceDefinedMultipleTimes": (400011, 400),
    "BulkRegistryOperationFailure": (400013, 400),
    "StorageNotConfigured": (400014, 400),
    "InvalidFileUploadCorrelationId": (400015, 400),
    "ExpiredFileUploadCorrelationId": (400016, 400),
    "InvalidContentEncodingOrType": (400103, 415),
    "IotHubUnauthorizedAccess": (401002, 401),
    "IotHubUnauthorized": (401003, 401),
    "IotHubQuotaExceeded": (403002, 403),
    "JobQuotaExceeded": (403003, 403),
    "DeviceMaximumQueueDepthExceeded": (403004, 403),
    "IotHubMaxCbsTokenExceeded": (403005, 403),
    "DeviceMaximumActiveFileUploadLimitExceeded": (403006, 403),
    "DeviceNotFound": (404001, 404),
    "JobNotFound": (404002, 404),
    "ModuleNotFound": (404010, 404),
    "DeviceNotOnline": (404103, 404),
    "DeviceConnectionClosedRemotely": (404104, 404),
    "DeviceAlreadyExists": (409001, 409),
    "LinkCreationConflict": (409002, 409),
    "ModuleAlreadyExistsOnDevice": (409301, 409),
    "PreconditionFailed": (412001, 412),
    "DeviceMessageLockLost": (412002, 412),
    "MessageTooLarge": (413001, 413),
    "TooManyModulesOnDevice": (413003, 413),
    "ThrottlingException": (429001, 429),
    "ThrottlingMaxActiveJobCountExceeded": (429004, 429),
    "ServerError": (500001, 500),
    "ServiceUnavailable": (503001, 503),
    "GatewayTimeout": (504101, 504),
}
ELSEWHERE: Final = {
    # of other surfaces, or told in their own form
    *("LinkCreationConflict", "IotHubMaxCbsTokenExceeded", "InvalidRange", "Conflict", "NotImplemented"),
    # tests/conversations/test_https_faults.py, tests/faults
    *("RequestTimeout", "ServiceUnavailable", "JobQuotaExceeded", "StorageNotConfigured"),
    # tests/security: of authorities and of what they issue
    *("CredentialRequestRefused", "KeyInUse", "CertificateInUse", "SigningKeyUnavailable"),
}
OF_PROVISIONING: Final = re.compile("Enrollment|Registration|CustomAllocation|DeviceIdInUse|IotHubNotFound|LinkedHub")


class Case(NamedTuple):
    """ask: makes what is needed, and asks for what is refused."""

    name: str
    ask: Callable[["Parties"], Answer]
    form: str = "A"
    status: int = 0  # another one than its name usually has


class Parties:
    """A hub with small limits, and a device."""

    def __init__(self, hub: HubInThread) -> None:
        self.hub = hub
        hub.create_device("d")

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        mark = "&" if "?" in path else "?"
        return request(self.hub, method, f"{path}{mark}{VERSION}", body, **options)

    def of_device(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return self.ask(method, f"/devices/d{path}", body, token=device_token(self.hub, "d"), **options)

    def twice(self, path: str, body: Any) -> Answer:
        assert self.ask("PUT", path, body).status == 200
        return self.ask("PUT", path, body)

    def until_refused(self, ask: Callable[[int], Answer]) -> Answer:
        for number in range(60):
            if (answer := ask(number)).status >= 400:
                return answer
        raise AssertionError("nothing was refused")

    def call(self, device_id: str, **body: Any) -> Answer:
        return self.ask("POST", f"/twins/{device_id}/methods", {"methodName": "m", **body})

    def expired_upload(self) -> Answer:
        begun = self.of_device("POST", "/files", {"blobName": "old"}).body
        self.hub.clock.move(3700)
        return self.of_device(
            "POST", "/files/notifications", {"correlationId": begun["correlationId"], "isSuccess": True}
        )

    def call_while(self, device_id: str, then: Callable[[MqttPeer], Answer | None]) -> Answer:
        """What ``then`` gets once the device has been called, or else what the call gets."""
        with MqttPeer.logged_in(self.hub, device_id) as peer, concurrent.futures.ThreadPoolExecutor(1) as other:
            peer.send(subscribe([("$iothub/methods/POST/#", 0)]))
            assert peer.read()
            called = other.submit(self.call, device_id, responseTimeoutInSeconds=300)
            assert peer.read()
            first = then(peer)
            peer.sock.close()
            return first or called.result()

    def second_call(self) -> Answer:
        return self.call_while("busy", lambda _: self.call("busy"))

    def call_of_one_that_goes(self) -> Answer:
        return self.call_while("goes", lambda peer: peer.sock.close())

    def call_of_a_silent_one(self) -> Answer:
        with MqttPeer.logged_in(self.hub, "silent") as peer, concurrent.futures.ThreadPoolExecutor(1) as other:
            peer.send(subscribe([("$iothub/methods/POST/#", 0)]))
            assert peer.read()
            called = other.submit(self.call, "silent", responseTimeoutInSeconds=30)
            assert peer.read()
            self.hub.clock.move(31)
            return called.result()


TWIN_JOB: Final = {"type": "scheduleUpdateTwin", "updateTwin": {"tags": {"a": 1}}, "startTime": "2100-01-01T00:00:00Z"}
CONFIGURATION: Final = {"content": {"deviceContent": {"properties.desired.a": 1}}}
CASES: Final = (
    Case("InvalidProtocolVersion", lambda on: request(on.hub, "GET", "/devices")),
    Case("ArgumentInvalid", lambda on: on.ask("GET", "/devices?top=0")),
    Case("ArgumentInvalid", lambda on: on.ask("POST", "/devices/query", {"query": "nothing"})),
    Case("ArgumentInvalid", lambda on: on.ask("GET", f"/devices?a={'x' * 9000}"), status=414),
    Case("IotHubFormatError", lambda on: on.ask("PUT", "/devices/x", b"{")),
    Case("BulkRegistryOperationFailure", lambda on: on.ask("POST", "/devices", {})),
    Case(
        "InvalidFileUploadCorrelationId",
        lambda on: on.of_device("POST", "/files/notifications", {"correlationId": "x", "isSuccess": True}),
    ),
    Case("ExpiredFileUploadCorrelationId", lambda on: on.expired_upload()),
    Case(
        "InvalidContentEncodingOrType",
        lambda on: on.ask("PUT", "/devices/x", b"x", headers={"Content-Encoding": "gzip"}),
    ),
    Case("IotHubUnauthorizedAccess", lambda on: on.ask("DELETE", "/devices/x", policy="registryRead")),
    Case("IotHubUnauthorized", lambda on: on.ask("GET", "/devices", token="")),
    Case("IotHubUnauthorized", lambda on: on.ask("GET", "/devices/d/messages/devicebound", token="nonsense")),
    Case("IotHubQuotaExceeded", lambda on: on.until_refused(lambda n: on.ask("PUT", f"/api/events/groups/g{n}"))),
    Case(
        "DeviceMaximumQueueDepthExceeded",
        lambda on: on.until_refused(lambda _: on.ask("POST", "/devices/d/messages/devicebound", b"x")),
    ),
    Case(
        "DeviceMaximumActiveFileUploadLimitExceeded",
        lambda on: on.until_refused(lambda n: on.of_device("POST", "/files", {"blobName": f"{n}"})),
    ),
    Case("NotFound", lambda on: on.ask("GET", "/nothing")),
    Case("NotFound", lambda on: on.ask("GET", "/api/cas/nothing")),
    Case("DeviceNotFound", lambda on: on.ask("GET", "/devices/x")),
    Case("DeviceNotFound", lambda on: on.call("x"), "B"),
    Case("PolicyNotFound", lambda on: on.ask("GET", "/api/policies/x")),
    Case("JobNotFound", lambda on: on.ask("GET", "/jobs/v2/x")),
    Case("ModuleNotFound", lambda on: on.ask("GET", "/twins/d/modules/x")),
    Case("ConfigurationNotFound", lambda on: on.ask("GET", "/configurations/x")),
    Case("DeviceNotOnline", lambda on: on.call("d"), "B"),
    Case("ArgumentInvalid", lambda on: on.call("d", responseTimeoutInSeconds=4), "B"),
    Case("MessageTooLarge", lambda on: on.call("d", payload="x" * 132_000), "B"),
    Case("DeviceConnectionClosedRemotely", lambda on: on.call_of_one_that_goes(), "B"),
    Case("GatewayTimeout", lambda on: on.call_of_a_silent_one(), "B"),
    Case("ThrottlingException", lambda on: on.second_call(), "B"),
    Case("MethodNotAllowed", lambda on: on.ask("PATCH", "/devices/d")),
    Case("DeviceAlreadyExists", lambda on: on.twice("/devices/e", {"deviceId": "e"})),
    Case(
        "ModuleAlreadyExistsOnDevice", lambda on: on.twice("/devices/d/modules/m", {"deviceId": "d", "moduleId": "m"})
    ),
    Case(
        "TooManyModulesOnDevice",
        lambda on: on.until_refused(
            lambda n: on.ask("PUT", f"/devices/d/modules/n{n}", {"deviceId": "d", "moduleId": f"n{n}"})
        ),
    ),
    Case("DeviceJobAlreadyExists", lambda on: on.twice("/jobs/v2/one", TWIN_JOB)),
    Case(
        "ThrottlingMaxActiveJobCountExceeded",
        lambda on: on.until_refused(lambda n: on.ask("PUT", f"/jobs/v2/more{n}", TWIN_JOB)),
    ),
    Case("ConfigurationAlreadyExists", lambda on: on.twice("/configurations/c", CONFIGURATION)),
    Case(
        "CertificateAlreadyExists",
        lambda on: on.twice("/api/cas/root", {"certificate": Certificate.made("root", ca=True).pem}),
    ),
    Case("PreconditionFailed", lambda on: on.ask("DELETE", "/devices/d", headers={"If-Match": "stale"})),
    Case("DeviceMessageLockLost", lambda on: on.of_device("DELETE", "/messages/devicebound/x")),
    Case("MessageTooLarge", lambda on: on.ask("PUT", "/devices/x", b"x" * (1024 * 1024 + 1))),
    Case("MessageTooLarge", lambda on: on.of_device("POST", "/messages/events", b"x" * 262_145)),
)


@pytest.fixture(scope="module")
def parties() -> Iterator[Parties]:
    limits = {
        "jobs_active": 3,
        "modules_per_device": 3,
        "uploads": 3,
        "cloud_to_device_queue": 5,
        "methods_per_identity": 1,
    }
    with HubInThread(limits=limits) as hub:
        yield Parties(hub)


def message_of(answer: Answer, form: str) -> tuple[str, str, int | None]:
    """Text, tracking id, and the number in form B."""
    body = answer.body
    assert set(body) == {"Message", "ExceptionMessage"}
    if form == "A":
        name, _, text = body["Message"].removeprefix("ErrorCode:").partition(";")
        assert name == answer.headers["iothub-errorcode"]
        found = re.fullmatch(
            r"Tracking ID:([0-9a-f]{32})-G:0-TimeStamp:\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", body["ExceptionMessage"]
        )
        assert found is not None, body
        return text, found[1], None
    inner = json.loads(body["Message"])
    assert body["ExceptionMessage"] == ""
    return inner["message"], inner["trackingId"].partition("-")[0], inner["errorCode"]


@pytest.mark.explains("methods-too-many")
@pytest.mark.spec("S-29")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_refusal_has_its_body_header_and_number(parties: Parties, case: Case) -> None:
    answer = case.ask(parties)
    assert answer.headers["iothub-errorcode"] == case.name
    ours = {row.name: (row.number, row.http) for row in ON_WIRE.values() if row.http not in {414, 421, 431}}
    number, status = DOCUMENTED.get(case.name) or ours[case.name]
    assert answer.status == (case.status or status)
    text, tracking_id, told = message_of(answer, case.form)
    assert text
    assert ";" not in text
    assert told in {None, number}
    if answer.status == 429:
        assert answer.headers["retry-after"].isdigit()
    (recorded,) = request(parties.hub, "GET", f"/api/refusals?key={tracking_id}").body
    assert (recorded["code"], recorded["name"]) == (number, case.name)
    assert recorded["cause"] in CAUSES
    assert (recorded["cause"] == "methods-too-many") == (case.name == "ThrottlingException")
    assert recorded["remedy"]


def test_names_and_numbers_are_the_documented_ones() -> None:
    for row in ON_WIRE.values():
        if (documented := DOCUMENTED.get(row.name)) is not None and row.http not in {414, 431}:
            assert (row.number, row.http) == documented, row.name


def test_every_refusal_has_a_case() -> None:
    names = {row.name for row in ON_WIRE.values() if not OF_PROVISIONING.search(row.name)}
    assert names - {case.name for case in CASES} - ELSEWHERE - {"DeviceDefinedMultipleTimes"} == set()


def test_a_refusal_within_a_bulk_request_has_its_name(parties: Parties) -> None:
    records = [{"id": "twice", "importMode": "create"}] * 2
    answer = parties.ask("POST", "/devices", records)
    assert answer.status == 400
    assert {each["errorCode"] for each in answer.body["errors"]} == {"DeviceDefinedMultipleTimes"}
