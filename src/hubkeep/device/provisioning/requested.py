"""Certificates that devices ask for when they register, from the hub's own authorities (provisioning-and-pki 1.12).

The key never leaves the device. What proved it to the provisioning service then opens nothing at the hub.
"""

import logging
from collections import OrderedDict
from typing import Any, Final

import msgspec

from hubkeep.errors import RequestRefused, Throttled
from hubkeep.limits import CERTIFICATE_REQUESTS
from hubkeep.model import Enrolment, Identity, RegisterRequest

from ..approvals import RETRY_AFTER, AwaitsApproval
from ..issuing import Issuing
from ..requests import SigningRequest, read_request

log = logging.getLogger(__name__)

AT_THE_HUB: Final[dict[str, Any]] = {
    "authentication": "certificateAuthority",
    "primary_key": None,
    "secondary_key": None,
    "primary_thumbprint": None,
    "secondary_thumbprint": None,
}


class RequestedCertificates:
    """without_policy: enrolments that name no authority are answered too, by the newest; the first is made then."""

    def __init__(self, issuing: Issuing, *, without_policy: bool) -> None:
        self._issuing, self._without_policy = issuing, without_policy
        # who is to be made once its request is approved: the approval is for that very identity
        self._waiting: OrderedDict[tuple[str, str], str] = OrderedDict()

    def read(
        self, enrolment: Enrolment, request: RegisterRequest, registration_id: str, device_id: str
    ) -> SigningRequest | None:
        """None: the device asks for none, or nobody here gives it one. Raises RequestRefused."""
        if not request.csr:
            return None
        if not (enrolment.credential_policy or self._without_policy):
            log.info("%s asks for a certificate, and %s names no authority", registration_id, enrolment.key)
            return None
        found = read_request(request.csr)
        own = {registration_id.lower(), device_id.lower()}
        if len(found.names) > 1 or not own.issuperset(each.lower() for each in found.names):
            told = ", ".join(repr(each)[:100] for each in found.names[:3])
            raise RequestRefused(
                "The common name of the request is not the registration id.",
                reason=f"the request is made out to {told}, who asks is {registration_id!r}",
            )
        return found._replace(names=())  # the hub knows the device by its device id: that is what it is made out to

    async def issue(
        self, enrolment: Enrolment, identity: Identity, request: SigningRequest, *, is_new: bool
    ) -> tuple[Identity, tuple[bytes, ...]]:
        """To whom, and the certificates (DER), the leaf first. is_new: the identity is not stored yet.

        Raises RequestRefused, KeyInUse, QuotaExceeded, NotFound (the authority is gone);
        Throttled, KeyUnavailable: then it is worth registering again.
        """
        authority, name = enrolment.credential_policy, (identity.device_id, request.key_sha256)
        if is_new and name in self._waiting:
            identity = msgspec.structs.replace(identity, generation_id=self._waiting[name])
        try:
            issued = await self._issuing.issue(
                identity, request, "provisioning", authority=authority, make_authority=not authority
            )
        except AwaitsApproval:
            self._waiting[name] = identity.generation_id
            if len(self._waiting) > CERTIFICATE_REQUESTS.value:
                self._waiting.popitem(last=False)
            waits = Throttled(
                cause="approval-awaited",
                reason="the certificate request waits for approval",
                remedy="hubkeep cert requests",
            )
            waits.retry_after = RETRY_AFTER
            raise waits from None
        self._waiting.pop(name, None)
        return identity, issued.chain
