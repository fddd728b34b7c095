"""The API's description against the hub: what is served, and that the router knows the same addresses."""

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from conversations import api_contract
from conversations.https_peer import VERSION, request
from conversations.provisioning_peer import OWNER, enrol
from conversations.provisioning_peer import token as provisioning_token
from hubkeep.connection.https.api import openapi_document
from hubkeep.testing import HubInThread

METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
IN_PATH = {"deviceId": "press-07", "moduleId": "vision", "configurationId": "tune"}


@pytest.fixture(scope="module")
def client(shared_hub: HubInThread) -> Iterator[http.client.HTTPSConnection]:
    """One connection for many requests."""
    context = ssl.create_default_context(cafile=str(shared_hub.trust_bundle))
    connection = http.client.HTTPSConnection(shared_hub.host_name, 443, context=context, timeout=10)
    yield connection
    connection.close()


def operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in openapi_document()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: IN_PATH.get(found[1], "x"), path)


def credential(hub: HubInThread, path: str) -> str:
    """One that opens the path."""
    if path.startswith(f"/{hub.id_scope}/"):
        return provisioning_token(hub, "x", b"p" * 32)
    is_of_provisioning = path.startswith(("/enrollment", "/registrations", "/api/enrollment"))
    return hub.token(policy=OWNER if is_of_provisioning else "iothubowner")


def test_anybody_reads_the_description(shared_hub: HubInThread) -> None:
    answer = request(shared_hub, "GET", "/openapi.json", token="")
    assert (answer.status, answer.body["openapi"]) == (200, "3.1.0")
    assert answer.body == json.loads(json.dumps(openapi_document()))
    assert shared_hub.host_name not in json.dumps(answer.body)


def test_the_hub_answers_to_what_is_described_and_to_nothing_else_there(
    shared_hub: HubInThread, client: http.client.HTTPSConnection
) -> None:
    for path, methods in openapi_document()["paths"].items():
        # an address like /devices/query is also that of a device
        there = {each: found for each in METHODS if (found := api_contract.find(each, filled(path)))}
        assert {each.upper() for each in methods} <= set(there)
        for method in METHODS:
            client.request(method, f"{filled(path)}?{VERSION}")
            response = client.getresponse()
            content = response.read()
            where = f"{method} {path}: {response.status} {content[:200]!r}"
            if found := there.get(method):
                is_open = not found.operation["security"]
                assert (response.status not in {401, 405}) if is_open else response.status == 401, where
                continue
            assert response.status == 405, where
            assert set(response.headers["Allow"].split(", ")) == set(there), where


def test_api_version_is_asked_for_where_the_description_says_so(
    shared_hub: HubInThread, client: http.client.HTTPSConnection
) -> None:
    shared_hub.create_device("press-07")
    enrol(shared_hub, "x")
    for method, path, operation in operations():
        if operation["operationId"] == "admin.events":  # has no end
            continue
        versions = [each for each in operation.get("parameters", ()) if each["name"] == "api-version"]
        path = path.replace("{idScope}", shared_hub.id_scope)  # noqa: PLW2901  # the hub's own
        client.request(method, filled(path), headers={"Authorization": credential(shared_hub, path)})
        response = client.getresponse()
        response.read()
        is_asked_for = response.headers.get("iothub-errorcode") == "InvalidProtocolVersion"
        assert is_asked_for == any(each.get("required") for each in versions), f"{method} {path}"


def test_an_answer_that_is_not_as_described_is_found() -> None:
    headers = {"content-type": "application/json", "x-ms-request-id": "0b6f4a3e-0000-4000-8000-000000000000"}
    refused = b'{"Message":"ErrorCode:DeviceNotFound;no","ExceptionMessage":"Tracking ID:-G:0-TimeStamp:"}'
    known = {**headers, "iothub-errorcode": "DeviceNotFound"}
    assert api_contract.faults("GET", "/devices/a", 404, known, refused) == []
    for status, given, content in (
        (404, headers, refused),  # no name of the number
        (404, {**headers, "iothub-errorcode": "JobNotFound"}, refused),
        (404, known, b'{"Message":"no"}'),
        (418, known, refused),
        (200, headers, b'{"deviceId":"a"}'),
        (200, {**headers, "content-type": "text/plain"}, b"a"),
    ):
        assert api_contract.faults("GET", "/devices/a", status, given, content), (status, given, content)
