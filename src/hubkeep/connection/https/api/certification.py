"""Certificate authorities, what the hub's own issue, and what is denied."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, UnsetType

from hubkeep.errors import (
    AuthorityExists,
    AuthorityInUse,
    DeviceNotFound,
    KeyInUse,
    KeyUnavailable,
    ModuleNotFound,
    NotFound,
    NotImplementedHere,
    PreconditionFailed,
    QuotaExceeded,
    RequestRefused,
    Throttled,
)
from hubkeep.limits import CRL_BYTES, EST_REQUEST, HTTP_SERVICE_BODY, OCSP_REQUEST
from hubkeep.model import AuthorityKind, AuthorityState, Door, RevocationMode

from ..authorities import AuthorityBody, AuthorityChanges, ChainBody, IssuerBody, StateBody
from ..certificates import DenialBody, RequestBody, RevocationBody
from ..est import ATTRIBUTES, CERTIFICATES, REQUEST
from ..revocation import CRL, OCSP_ANSWERED, OCSP_REQUESTED
from .rows import ETAG, IF_MATCH, JSON, Answer, Body, Count, Described, Etag, Parameter, Time, Told, empty, given


class CertificateAuthority(Told, kw_only=True):
    """An authority whose word counts for devices while it is active or retiring, or a root above one of the hub's own.

    key: where the private key of the hub's own lies. days: how long certificates last that it issues; 0: the default.
    allowedIds: patterns of the identities that it may speak for; none: all. A waiting one has no certificate yet.
    """

    name: str
    kind: AuthorityKind
    state: AuthorityState
    etag: Etag
    subject: str
    issuer: str
    thumbprint: str
    expires: str
    created: Time
    updated: Time
    certificate: Annotated[str, Meta(description="PEM.")]
    chain: Annotated[list[str], Meta(description="PEM: those above it, the nearest first.")]
    key: str
    days: float
    manual_approval: bool
    is_vouched_for: bool
    allowed_ids: list[str]
    revocation: RevocationMode
    crl_url: str
    ocsp_url: str
    verification_code: str | UnsetType = UNSET
    code_expires: Time | UnsetType = UNSET
    request: Annotated[str, Meta(description="PEM: what a root elsewhere signs.")] | UnsetType = UNSET


class SigningRequest(Told):
    request: Annotated[str, Meta(description="PEM.")]


class CertificateRecord(Told, kw_only=True):
    """A row of the issuance log. superseded: from when on a newer one stands in its place."""

    serial: str
    authority: str
    device_id: str
    module_id: str
    status: Annotated[str, Meta(description="valid, expired, superseded, revoked, unsigned")]
    generation: int
    issued: Time
    expires: Time
    door: Door
    first_used: Time | None
    last_used: Time | None
    superseded: Time | None
    revoked: Time | None
    reason: str


class IssuedCertificate(CertificateRecord, kw_only=True):
    """authentication: of its identity, which the certificate opens if it is certificateAuthority, or sas still."""

    certificate: Annotated[str, Meta(description="PEM.")]
    chain: Annotated[list[str], Meta(description="PEM, the certificate first, the root last.")]
    authentication: str


class WaitingRequest(Told):
    """id: SHA-256 of the public key info."""

    id: str
    authority: str
    device_id: str
    module_id: str
    state: Annotated[str, Meta(description="waiting, approved, refused")]
    asked: Time
    decided: Time | None
    by: str


class Revoked(Told):
    """One certificate; without a serial number, everything that the identity was issued before this generation."""

    device_id: str
    module_id: str
    serial: str
    generation: int


class DeniedCertificate(Told, kw_only=True):
    """mark: what the entry is called here. by: who made it. until: for ever if there is none."""

    mark: str
    kind: str
    value: str
    issuer: str
    reason: str
    at: Time
    by: str
    until: Time | None


class RevocationList(Told):
    """number: CRLNumber, which may have 20 octets. failure: of the last try to fetch it."""

    entries: Count
    number: str
    next_update: Time | None
    fetched: Time | None
    failure: str


_LIMIT: Final = HTTP_SERVICE_BODY.value
_AUTHORITY: Final = given(CertificateAuthority, "The authority.", ETAG)


def _change(summary: str, body: Any, text: str = "", *refusals: Any) -> Described:
    return Described(
        summary,
        _AUTHORITY,
        text=text,
        body=Body({JSON: body}, _LIMIT),
        headers=(IF_MATCH,),
        refusals=(PreconditionFailed, *refusals),
    )


_LATER: Final = {202: Answer("It waits for approval: send the same again after Retry-After.")}
_MESSAGE: Final = {200: Answer("Certificates: PKCS #7, certs-only, in base64.", None, CERTIFICATES)}
_REQUESTED: Final = Body({REQUEST: None}, EST_REQUEST.value)
_ISSUING: Final = (
    RequestRefused,
    KeyInUse,
    QuotaExceeded,
    Throttled,
    KeyUnavailable,
    NotFound,
    DeviceNotFound,
    ModuleNotFound,
)


def _est(label: str) -> dict[str, Described]:
    """RFC 7030. label: of the addresses that name an authority."""
    of = ", of one authority" if label else ""
    never = Described(f"Not done{of}: a private key stays with its device", empty(), refusals=(NotImplementedHere,))
    return {
        f"est/cacerts{label}": Described(
            f"Get the authorities above devices' certificates{of} (EST)", _MESSAGE, refusals=(NotFound,)
        ),
        f"est/csrattrs{label}": Described(
            f"Get what a certificate request should be like{of} (EST)",
            {200: Answer("CsrAttrs in base64.", None, ATTRIBUTES)},
        ),
        f"est/simpleenroll{label}": Described(
            f"Get a certificate for the identity that asks{of} (EST)",
            {**_MESSAGE, **_LATER},
            text="Proved by its certificate, or by Basic: its name, and a token of its own key as password.",
            body=_REQUESTED,
            refusals=_ISSUING,
        ),
        f"est/simplereenroll{label}": Described(
            f"Renew the certificate of this connection{of} (EST)",
            {**_MESSAGE, **_LATER},
            text="Also a little after its end, once.",
            body=_REQUESTED,
            refusals=_ISSUING,
        ),
        f"est/serverkeygen{label}": never,
        f"est/fullcmc{label}": never,
    }


ROWS: Final[Mapping[str, Described]] = {
    **_est(""),
    **_est("/label"),
    "admin/cas/list": Described("List certificate authorities", given(list[CertificateAuthority], "By name.")),
    "admin/cas/get": Described("Get a certificate authority", _AUTHORITY),
    "admin/cas/put": Described(
        "Register a certificate authority",
        _AUTHORITY,
        text="`isVerified` vouches for it without a proof. None is ever replaced.",
        body=Body({JSON: AuthorityBody}, _LIMIT),
        refusals=(AuthorityExists, QuotaExceeded),
    ),
    "admin/cas/delete": Described(
        "Delete a certificate authority",
        empty("It is gone; links that it vouched for are cut."),
        headers=(IF_MATCH,),
        query=(Parameter("force", str, "`true`: even if it let identities in within 30 days."),),
        refusals=(PreconditionFailed, AuthorityInUse),
    ),
    "admin/cas/challenge": Described(
        "Ask for a verification code", _AUTHORITY, headers=(IF_MATCH,), refusals=(PreconditionFailed,)
    ),
    "admin/cas/proof": _change(
        "Prove to hold an authority's key",
        AuthorityBody,
        "With a certificate whose common name is the code, signed by the authority; it is denied as a device's.",
        QuotaExceeded,
    ),
    "admin/cas/patch": _change("Change for whom an authority speaks, and how it is asked", AuthorityChanges),
    "admin/cas/state": _change(
        "Change how far an authority is trusted", StateBody, "Links that are trusted no more are cut."
    ),
    "admin/cas/make": Described(
        "Make an authority of the hub's own",
        _AUTHORITY,
        text="Below a root of the hub's own, or, with `request`, below one elsewhere: then it waits.",
        body=Body({JSON: IssuerBody}, _LIMIT),
        refusals=(AuthorityExists, QuotaExceeded, KeyUnavailable, NotFound),
    ),
    "admin/cas/request": Described(
        "Get the request of an own authority", given(SigningRequest, "To be signed."), refusals=(KeyUnavailable,)
    ),
    "admin/cas/install": Described(
        "Give a waiting authority its certificate",
        _AUTHORITY,
        body=Body({JSON: ChainBody}, _LIMIT),
        refusals=(KeyUnavailable,),
    ),
    "admin/cas/crl": Described(
        "Show what is known of an authority's revocation list", given(RevocationList, "The newest that was good.")
    ),
    "admin/cas/crl/put": Described(
        "Give the hub an authority's revocation list",
        given(RevocationList, "It counts; links of certificates that are new on it are cut."),
        text="DER or PEM, signed by the authority, of no lower number than the one before.",
        body=Body({CRL: None}, CRL_BYTES.value),
    ),
    "admin/certificates/issue": Described(
        "Issue a certificate to a device or module",
        given(IssuedCertificate, "The certificate and those above it."),
        text="Of the request count the key and the name. The first one makes the hub's authority. The same request "
        "within an hour gets the same certificate.",
        body=Body({JSON: RequestBody}, _LIMIT),
        refusals=(
            DeviceNotFound,
            ModuleNotFound,
            RequestRefused,
            KeyInUse,
            QuotaExceeded,
            Throttled,
            KeyUnavailable,
            AuthorityExists,
            NotFound,
        ),
    ),
    "admin/certificates/list": Described(
        "List what was issued",
        given(list[CertificateRecord], "The newest first."),
        query=(
            Parameter("device", str, "To this device alone."),
            Parameter("module", str, "To this module of it."),
            Parameter("serial", str, "Of this serial number."),
            Parameter("authority", str, "By this authority alone."),
            Parameter("top", Annotated[int, Meta(ge=1, le=1000)], "At most so many: 1000 by default."),
        ),
    ),
    "admin/certificates/revoke": Described(
        "Revoke a certificate, or all of an identity",
        given(Revoked, "What is revoked; its links are cut."),
        body=Body({JSON: RevocationBody}, _LIMIT),
        refusals=(DeviceNotFound, ModuleNotFound, NotFound, QuotaExceeded),
    ),
    "admin/certificates/requests": Described(
        "List certificate requests that wait for approval", given(list[WaitingRequest], "The newest first.")
    ),
    "admin/certificates/approve": Described(
        "Approve a certificate request", given(WaitingRequest, "The device gets it when it asks again.")
    ),
    "admin/certificates/refuse": Described("Refuse a certificate request", given(WaitingRequest, "It is refused.")),
    "admin/denials/list": Described("Show the deny-list", given(list[DeniedCertificate], "The newest first.")),
    "admin/denials/put": Described(
        "Deny a certificate, a key or a serial number",
        given(DeniedCertificate, "The entry; links that it is about are cut."),
        body=Body({JSON: DenialBody}, _LIMIT),
        refusals=(NotFound, QuotaExceeded),
    ),
    "admin/denials/delete": Described("Take an entry off the deny-list", empty("It is off the list.")),
    "revocation/list": Described(
        "Get the revocation list of one of the hub's own authorities",
        {200: Answer("The list (DER), signed by the authority.", None, CRL)},
        refusals=(KeyUnavailable,),
    ),
    "revocation/ask": Described(
        "Ask whether a certificate was revoked (OCSP)",
        {200: Answer("What the responder says (DER), of an error as well.", None, OCSP_ANSWERED)},
        body=Body({OCSP_REQUESTED: None}, OCSP_REQUEST.value),
        refusals=(KeyUnavailable,),
    ),
    "revocation/ask/get": Described(
        "Ask whether a certificate was revoked (OCSP by GET)",
        {200: Answer("What the responder says (DER), of an error as well.", None, OCSP_ANSWERED)},
        refusals=(KeyUnavailable,),
    ),
}
