"""Entries of new devices: identities at the hub, or enrolments of its provisioning service; many in one request."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from .client import HubClient, device_path
from .provisioning_results import Record


class Entries(Protocol):
    """Where devices are entered. at_once: how many in one request."""

    at_once: int

    def create(self, records: Sequence[Record], tags: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Those that were refused, and why; ``EXISTS`` of what is there already."""

    def is_ours(self, record: Record) -> bool:
        """Whether what is there was made from this record: by a run that was cut short."""

    def told(self, record: Record) -> Record:
        """What the device must know."""


EXISTS: Final = "it exists already"


class Identities:
    at_once = 100

    def __init__(self, client: HubClient) -> None:
        self._client = client

    def create(self, records: Sequence[Record], tags: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        wanted = [
            {
                "id": each["id"],
                "importMode": "create",
                "authentication": _authentication(each),
                "tags": tags[each["id"]],
            }
            for each in records
        ]
        errors = self._client.bulk(wanted)["errors"]
        return {
            each["deviceId"]: EXISTS if each["errorCode"] == "DeviceAlreadyExists" else each["errorStatus"]
            for each in errors
        }

    def is_ours(self, record: Record) -> bool:
        found: dict[str, Any] = self._client.get(device_path(record["id"]))["authentication"]
        if found["type"] != _authentication(record)["type"]:
            return False
        if record["by"] == "key":
            return bool(found["symmetricKey"]["primaryKey"] == record["primaryKey"])
        if record["by"] == "thumbprint":
            return str(found["x509Thumbprint"]["primaryThumbprint"]).upper() == str(record["thumbprint"]).upper()
        return True

    def told(self, record: Record) -> Record:
        proof = f"SharedAccessKey={record['primaryKey']}" if record["by"] == "key" else "x509=true"
        return {"connectionString": f"HostName={self._client.place.host};DeviceId={record['id']};{proof}"}


class Enrolments:
    at_once = 10

    def __init__(self, client: HubClient) -> None:
        self._client = client
        self._scope = client.get("/api/provisioning")["idScope"]

    def create(self, records: Sequence[Record], tags: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        wanted = [
            {
                "registrationId": each["id"],
                "attestation": _attestation(each),
                "initialTwin": {"tags": tags[each["id"]], "properties": {"desired": {}}},
            }
            for each in records
        ]
        answer = self._client.request("POST", "/enrollments", body={"mode": "create", "enrollments": wanted})
        return {
            each["registrationId"]: EXISTS if each["errorCode"] == _ENROLLED else each["errorStatus"]
            for each in answer["errors"]
        }

    def is_ours(self, record: Record) -> bool:
        path = device_path(record["id"]).replace("/devices/", "/enrollments/", 1)
        found = self._client.request("POST", f"{path}/attestationmechanism")
        if record["by"] == "key":
            return bool((found.get("symmetricKey") or {}).get("primaryKey") == record["primaryKey"])
        info = ((found.get("x509") or {}).get("clientCertificates") or {}).get("primary", {}).get("info", {})
        return str(info.get("sha256Thumbprint", "")).upper() == str(record["thumbprint"]).upper()

    def told(self, record: Record) -> Record:
        return {"idScope": self._scope, "registrationId": record["id"], "provisioningHost": self._client.place.host}


_ENROLLED: Final = 409201


def _authentication(record: Record) -> dict[str, Any]:
    if record["by"] == "key":
        keys = {"primaryKey": record["primaryKey"], "secondaryKey": record["secondaryKey"]}
        return {"type": "sas", "symmetricKey": keys}
    if record["by"] == "thumbprint":
        return {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": record["thumbprint"]}}
    return {"type": "certificateAuthority"}


def _attestation(record: Record) -> dict[str, Any]:
    if record["by"] == "key":
        keys = {"primaryKey": record["primaryKey"], "secondaryKey": record["secondaryKey"]}
        return {"type": "symmetricKey", "symmetricKey": keys}
    return {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": record["certificate"]}}}}
