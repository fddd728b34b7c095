"""Enrolments and registration records over the service's REST interface: raw requests."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.certificates import Certificate
from conversations.https_peer import request
from conversations.provisioning_peer import (
    SERVICE_VERSION,
    derived,
    enrol,
    enrol_group,
    outcome,
    register,
    service,
    symmetric,
)
from hubkeep.testing import HubInThread


@pytest.fixture(scope="module")
def hub() -> Iterator[HubInThread]:
    with HubInThread(provisioning={"answer_at_once": True}, limits={"enrolment_groups": 12}) as running:
        yield running


def put(hub: HubInThread, registration_id: str, attestation: Any = None, **members: Any) -> Any:
    body = {"registrationId": registration_id, "attestation": attestation or symmetric(), **members}
    return service(hub, "PUT", f"/enrollments/{registration_id}", body)


@pytest.mark.spec("P-29")
def test_an_existing_enrolment_is_replaced_under_its_etag_alone(hub: HubInThread, device_id: str) -> None:
    first = enrol(hub, device_id)
    assert put(hub, device_id).status == 409
    body = {"registrationId": device_id, "attestation": symmetric(), "deviceId": "other"}
    path = f"/enrollments/{device_id}"
    assert service(hub, "PUT", path, body, If_Match='"stale"').status == 412
    second = service(hub, "PUT", path, body, If_Match=f'"{first["etag"]}"')
    assert (second.status, second.body["deviceId"]) == (200, "other")
    assert second.headers["etag"] == f'"{second.body["etag"]}"'
    third = service(hub, "PUT", path, body, If_Match=second.body["etag"])
    assert service(hub, "PUT", path, body, If_Match="*").status == 200
    assert third.body["createdDateTimeUtc"] == first["createdDateTimeUtc"]
    assert service(hub, "DELETE", path, If_Match=third.body["etag"]).status == 412
    assert service(hub, "DELETE", path).status == 204
    assert service(hub, "GET", path).body["errorCode"] == 404201
    assert service(hub, "DELETE", path).status == 404


@pytest.mark.spec("P-28")
def test_keys_are_shown_to_those_who_may_write(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    found = service(hub, "GET", f"/enrollments/{device_id}").body
    assert found["attestation"] == {"type": "symmetricKey", "symmetricKey": {"primaryKey": None, "secondaryKey": None}}
    shown = service(hub, "POST", f"/enrollments/{device_id}/attestationmechanism")
    assert shown.body == symmetric()
    readers = request(hub, "PUT", "/api/policies/readers", {"rights": "EnrollmentRead"})
    assert readers.status == 200
    path = f"/enrollments/{device_id}"
    assert service(hub, "GET", path, policy="readers").status == 200
    assert service(hub, "POST", f"{path}/attestationmechanism", policy="readers").status in {401, 403}
    told = request(hub, "GET", f"/api/audit?chain=disclosures&object={device_id}").body
    told = told["entries"] if isinstance(told, dict) else told
    assert [each["operation"] for each in told] == ["enrolments/attestation"]
    group = enrol_group(hub, f"g-{device_id}")
    assert "Key': None" in str(group["attestation"])
    keys = service(hub, "POST", f"/enrollmentGroups/g-{device_id}/attestationmechanism").body["symmetricKey"]
    assert [len(each) for each in keys.values()] == [88, 88]
    # a round trip of what GET shows changes no key
    enrol(hub, device_id, found["attestation"], if_match="*", provisioningStatus="disabled")
    assert service(hub, "POST", f"/enrollments/{device_id}/attestationmechanism").body == symmetric()


@pytest.mark.parametrize("policy", ["iothubowner", "registryReadWrite", "service", "device"])
def test_policies_of_the_hub_do_not_count_here(hub: HubInThread, policy: str) -> None:
    for method, path in (
        ("GET", "/enrollments/x"),
        ("PUT", "/enrollments/x"),
        ("POST", "/enrollments/x/attestationmechanism"),
        ("GET", "/registrations/x"),
        ("POST", "/enrollmentGroups/query"),
    ):
        assert service(hub, method, path, policy=policy).status == 401
    assert request(hub, "GET", f"/devices/x?{SERVICE_VERSION}", policy="provisioningserviceowner").status == 401


@pytest.mark.spec("P-30")
def test_paths_in_any_case_and_pages(hub: HubInThread, device_id: str) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        enrol(hub, name, provisioningStatus="disabled")
    assert service(hub, "GET", "/ENROLLMENTS/page-1").status == 200
    enrol_group(hub, f"g-{device_id}")
    assert service(hub, "GET", f"/enrollmentgroups/g-{device_id}").status == 200
    query = {"query": "SELECT * FROM enrollments WHERE provisioningStatus = 'disabled'"}
    found: list[str] = []
    continuation: dict[str, str] = {}
    for _ in range(10):
        page = service(hub, "POST", "/enrollments/query", query, x_ms_max_item_count="2", **continuation)
        assert (page.status, page.headers["x-ms-item-type"], type(page.body)) == (200, "Enrollment", list)
        found += [each["registrationId"] for each in page.body]
        if "x-ms-continuation" not in page.headers:
            break
        continuation = {"x_ms_continuation": page.headers["x-ms-continuation"]}
    assert [each for each in found if each.startswith("page-")] == names
    other = {"query": "SELECT * FROM enrollments"}
    assert service(hub, "POST", "/enrollments/query", other, **continuation).status == 400
    groups = service(hub, "POST", "/enrollmentGroups/query", {"query": "SELECT * FROM enrollmentGroups"})
    assert groups.headers["x-ms-item-type"] == "EnrollmentGroup"
    assert f"g-{device_id}" in [each["enrollmentGroupId"] for each in groups.body]


def test_queries(hub: HubInThread, device_id: str) -> None:
    enrol(hub, device_id)
    path = "/enrollments/query"
    one = f"select * from enrollments where registrationId = '{device_id.upper()}' and provisioningStatus='enabled'"
    assert [each["registrationId"] for each in service(hub, "POST", path, {"query": one}).body] == [device_id]
    assert service(hub, "POST", path, {"query": "SELECT *"}).status == 200
    for wrong in ("SELECT registrationId", "SELECT * WHERE tags.x = 1", "SELECT * FROM enrollments WHERE a='b' OR 1=1"):
        assert service(hub, "POST", path, {"query": wrong}).status == 400


def test_bulk(hub: HubInThread, device_id: str) -> None:
    records = [{"registrationId": f"{device_id}-{number}", "attestation": symmetric()} for number in range(3)]
    done = service(hub, "POST", "/enrollments/", {"mode": "create", "enrollments": records})
    assert done.body == {"isSuccessful": True, "errors": []}
    again = service(hub, "POST", "/enrollments", {"mode": "create", "enrollments": records[:1]}).body
    (error,) = again["errors"]
    assert (again["isSuccessful"], error["registrationId"], error["errorCode"] // 1000) == (
        False,
        f"{device_id}-0",
        409,
    )
    stale = [records[0] | {"etag": "stale"}, records[1] | {"provisioningStatus": "disabled"}]
    done = service(hub, "POST", "/enrollments", {"mode": "updateIfMatchETag", "enrollments": stale}).body
    assert [each["errorCode"] for each in done["errors"]] == [409203, 400004]
    done = service(hub, "POST", "/enrollments", {"mode": "update", "enrollments": stale[1:]}).body
    assert done["isSuccessful"]
    assert service(hub, "GET", f"/enrollments/{device_id}-1").body["provisioningStatus"] == "disabled"
    missing = {"registrationId": f"{device_id}-9", "attestation": symmetric()}
    done = service(hub, "POST", "/enrollments", {"mode": "update", "enrollments": [missing]}).body
    assert [each["errorCode"] for each in done["errors"]] == [404201]
    assert service(hub, "POST", "/enrollments", {"mode": "delete", "enrollments": records}).body["isSuccessful"]
    assert service(hub, "POST", "/enrollments", {"mode": "create", "enrollments": records * 4}).status == 400
    groups = [{"enrollmentGroupId": f"g-{device_id}", "attestation": {"type": "symmetricKey"}}]
    assert service(hub, "POST", "/enrollmentGroups", {"mode": "create", "enrollmentGroups": groups}).status == 200
    assert service(hub, "GET", f"/enrollmentGroups/g-{device_id}").status == 200


@pytest.mark.spec("P-19")
def test_a_certificate_may_come_in_three_forms(hub: HubInThread, device_id: str) -> None:
    forms = []
    for number in range(3):
        made = Certificate.made(f"root {number}", ca=True)
        forms.append((made, (made.pem, b64encode(made.der).decode(), b64encode(made.pem.encode()).decode())[number]))
    for number, (made, text) in enumerate(forms):
        attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": text}}}}
        told = enrol_group(hub, f"{device_id}-{number}", attestation)["attestation"]["x509"]["signingCertificates"]
        assert told["secondary"] is None
        assert told["primary"]["certificate"] is None
        assert told["primary"]["info"]["sha256Thumbprint"] == made.sha256.upper()
        assert told["primary"]["info"]["sha1Thumbprint"] == made.sha1.upper()
        # what an answer showed comes back, and means the certificate that is there
        again = enrol_group(
            hub, f"{device_id}-{number}", {"type": "x509", "x509": {"signingCertificates": told}}, if_match="*"
        )
        assert again["attestation"]["x509"]["signingCertificates"] == told
    body = {"enrollmentGroupId": "another", "attestation": attestation}
    assert service(hub, "PUT", "/enrollmentGroups/another", body).status == 409  # it belongs to one entry


REFUSED = {
    "no attestation": {},
    "an unknown attestation": {"attestation": {"type": "none"}},
    "a short key": {"attestation": symmetric(b"x" * 15)},
    "a key that is no base64": {"attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "?"}}},
    "no certificate": {"attestation": {"type": "x509", "x509": {}}},
    "a hub that is not linked": {"attestation": symmetric(), "iotHubs": ["elsewhere.example"]},
    "static without a hub": {"attestation": symmetric(), "allocationPolicy": "static"},
    "another policy": {"attestation": symmetric(), "allocationPolicy": "nearest"},
    "a twin that is none": {"attestation": symmetric(), "initialTwin": {"tags": {"a.b": 1}}},
    "another status": {"attestation": symmetric(), "provisioningStatus": "maybe"},
    "another id": {"attestation": symmetric(), "registrationId": "another"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_enrolment_can_be(hub: HubInThread, case: str) -> None:
    answer = service(hub, "PUT", "/enrollments/odd", {"registrationId": "odd", **REFUSED[case]})
    assert (answer.status, answer.body["errorCode"] // 1000) == (400, 400)
    assert service(hub, "GET", "/enrollments/odd").status == 404


def test_odd_ids_and_another_kind(hub: HubInThread, device_id: str) -> None:
    for name in ("ends.", "under score", "x" * 129, "a/b"):
        body = {"registrationId": name, "attestation": symmetric()}
        assert request(
            hub,
            "PUT",
            f"/enrollments/{name.replace(' ', '%20').replace('/', '%2F')}?{SERVICE_VERSION}",
            body,
            policy="provisioningserviceowner",
        ).status in {400, 404}
    enrol(hub, device_id)
    made = Certificate.made(device_id[:60])
    other = {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": made.pem}}}}
    body = {"registrationId": device_id, "attestation": other}
    assert service(hub, "PUT", f"/enrollments/{device_id}", body, If_Match="*").status == 400


def test_groups_have_a_quota() -> None:
    with HubInThread(limits={"enrolment_groups": 1}) as small:
        enrol_group(small, "one")
        body = {"enrollmentGroupId": "two", "attestation": {"type": "symmetricKey"}}
        assert service(small, "PUT", "/enrollmentGroups/two", body).status == 403
        assert service(small, "DELETE", "/enrollmentGroups/one").status == 204
        assert service(small, "PUT", "/enrollmentGroups/two", body).status == 200


def test_registration_records(hub: HubInThread, device_id: str) -> None:
    group = f"g-{device_id}"
    enrol_group(hub, group)
    for number in range(3):
        outcome(register(hub, f"rec-{number}", derived(hub, group, f"rec-{number}")))
    page = service(hub, "POST", f"/registrations/{group}/query", {"query": "SELECT *"}, x_ms_max_item_count="2")
    assert [each["registrationId"] for each in page.body] == ["rec-0", "rec-1"]
    assert page.headers["x-ms-item-type"] == "DeviceRegistration"
    rest = service(
        hub,
        "POST",
        f"/registrations/{group}/query",
        {"query": "SELECT *"},
        x_ms_max_item_count="2",
        x_ms_continuation=page.headers["x-ms-continuation"],
    )
    assert [each["registrationId"] for each in rest.body] == ["rec-2"]
    record = service(hub, "GET", "/registrations/REC-1")
    assert (record.body["status"], record.body["deviceId"]) == ("assigned", "rec-1")
    assert service(hub, "DELETE", "/registrations/rec-1", If_Match="stale").status == 412
    assert service(hub, "DELETE", "/registrations/rec-1").status == 204
    assert service(hub, "GET", "/registrations/rec-1").status == 404
    assert request(hub, "GET", f"/devices/rec-1?{SERVICE_VERSION}").status == 200
    outcome(register(hub, "rec-1", derived(hub, group, "rec-1")))
    enrol(hub, device_id)
    assert "registrationState" not in service(hub, "GET", f"/enrollments/{device_id}").body
    outcome(register(hub, device_id, b"p" * 32))
    assert service(hub, "GET", f"/enrollments/{device_id}").body["registrationState"]["status"] == "assigned"


def test_the_service_itself(hub: HubInThread) -> None:
    told = request(hub, "GET", "/api/provisioning").body
    assert told["idScope"] == hub.id_scope
    assert told["linkedHubs"] == [{"hostName": hub.host_name, "allocationWeight": 1, "applyAllocationPolicy": True}]
    assert request(hub, "GET", "/api/provisioning", policy="provisioningserviceowner").body == told
    assert request(hub, "GET", "/api/provisioning", policy="service").status == 401
