"""Custom allocation: a webhook is asked which hub a device goes to. Source: provisioning-and-pki 2.4.

Its address is a back end's, so egress decides whether it is reached. What it is told holds no key; what it answers is
taken only within bounds.
"""

import hmac
from hashlib import sha256
from typing import Any, Final

import msgspec

from hubkeep.errors import AllocationFailed, EgressRefused, HubError
from hubkeep.limits import WEBHOOK_ANSWER, WEBHOOK_WITHIN
from hubkeep.model import Enrolment, RegistrationCredential, time_stamp
from hubkeep.ports import AllocationAnswer, AllocationQuestion, Clock, Fetch, FetchFailed

from .https.enrolment_documents import enrolment_document
from .registration_documents import certificate_document, pem
from .strict_json import json_as

SIGNATURE: Final = "X-Hubkeep-Signature"
_REMEDY: Final = "mend the webhook, or name it in the setting egress.allow if the hub should reach it"


class _Answer(msgspec.Struct, rename="camel"):
    iot_hub_host_name: str
    initial_twin: dict[str, Any] | None = None
    payload: Any = None


class AllocationWebhook:
    """See ports.AskAllocation. secret: both ends know it, and it signs each request. authorization: a header, or none.

    The signature: ``t=UNIX SECONDS,v1=HEX``, of HMAC-SHA256 over the seconds as text, a dot, and the body.
    """

    def __init__(self, fetch: Fetch, secret: bytes, authorization: str, clock: Clock) -> None:
        self._fetch, self._secret, self._authorization, self._clock = fetch, secret, authorization, clock

    async def __call__(self, question: AllocationQuestion) -> AllocationAnswer:
        webhook = question.enrolment.webhook
        assert webhook is not None, "an enrolment of the policy custom has one"
        body = msgspec.json.encode(question_document(question))
        headers = {SIGNATURE: signature(self._secret, int(self._clock.now()), body)}
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            found = await self._fetch(
                webhook.url,
                at_most=WEBHOOK_ANSWER.value,
                within=WEBHOOK_WITHIN.value,
                body=body,
                kind="application/json",
                headers=headers,
            )
            answer = json_as(_Answer, found)
        except FetchFailed as error:
            raise AllocationFailed(reason=f"the webhook: {error}", remedy=_REMEDY) from None
        except EgressRefused as error:
            raise AllocationFailed(reason=f"the webhook: {error.reason}", remedy=error.remedy) from None
        except HubError as error:
            raise AllocationFailed(
                reason=f"the webhook's answer is not as it should be: {error.reason}", remedy=_REMEDY
            ) from None
        return AllocationAnswer(answer.iot_hub_host_name, answer.initial_twin, answer.payload)


def signature(secret: bytes, seconds: int, body: bytes) -> str:
    """seconds: Unix time; the receiver refuses old ones, and nobody can send the request again later."""
    return f"t={seconds},v1={hmac.new(secret, f'{seconds}.'.encode() + body, sha256).hexdigest()}"


def question_document(question: AllocationQuestion) -> dict[str, Any]:
    """Without any key: of an enrolment as it is read, and of the device its public half at most."""
    enrolment, credential, record = question.enrolment, question.credential, question.record
    device: dict[str, Any] = {"registrationId": credential.registration_id}
    if record is not None and record.hub:
        device |= {"currentIotHubHostName": record.hub, "currentDeviceId": record.device_id}
    device |= _attested(credential)
    if question.request.payload is not None:
        device["payload"] = question.request.payload
    return {
        "enrollmentGroup" if enrolment.is_group else "individualEnrollment": _without_keys(enrolment),
        "deviceRuntimeContext": device,
        "linkedHubs": list(question.hubs),
        "timestampUtc": time_stamp(question.at),
    }


def _without_keys(enrolment: Enrolment) -> dict[str, Any]:
    told = enrolment_document(enrolment)
    if enrolment.attestation.type != "x509":
        told["attestation"] = {"type": enrolment.attestation.type}
    return told


def _attested(credential: RegistrationCredential) -> dict[str, Any]:
    if credential.attestation != "x509":
        return {credential.attestation: {}}
    certificate = credential.certificate
    return {"x509": {"clientCertificate": pem(certificate), "certificateInfo": certificate_document(certificate)}}
