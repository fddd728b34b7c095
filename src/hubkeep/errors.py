"""What the hub refuses, and the one table that says it on every wire.

Rules raise a ``HubError``. Its text may reach the peer, so it never holds a key, a token, SQL or the cause of a failed
login; ``reason`` and ``remedy`` are for the operator alone (``hubkeep explain``). Listeners read ``ON_WIRE``.

Numbers and names: service-protocols 2.16. Error conditions: AMQP 1.0 part 2, 2.8.15, and device-protocols 4.10.
MQTT 5 table 2-6.
Return codes: MQTT 3.1.1 table 3.1, chosen as in device-protocols 3.2 (clients give up on 4 and 5, and retry on 3).
"""

import re
from typing import NamedTuple, Self

from hubkeep.causes import CAUSES


class HubError(Exception):
    """Something the hub refuses.

    text: short and fixed, may be sent to the peer.
    cause: its name in ``causes.CAUSES``; the class's own where none is given. reason: which check failed, for the
    operator. remedy: what would mend it, for the operator; the cause's cure where none is given.
    tracking_id: set when the refusal is recorded; the peer sees it, ``hubkeep explain`` looks it up.
    is_repeat: the same was told lately; it is counted, and not kept once more.
    row: the row of limits-and-faults that this answers, if it is not that of ``ROWS``; set through ``by``.
    """

    text = "The request was refused."
    row = ""
    is_repeat = False
    own_cause = "hub-error"

    def __init__(self, text: str = "", *, cause: str = "", reason: str = "", remedy: str = "") -> None:
        super().__init__(text or self.text)
        self.cause = cause or self.own_cause
        self.reason = reason or text or self.text
        self.remedy = remedy or (CAUSES[self.cause].cure if self.cause in CAUSES else "")
        self.tracking_id = ""

    def __init_subclass__(cls) -> None:
        cls.own_cause = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()

    def again(self) -> Self:
        """The same refusal as a new exception: one raised many times would keep the frames of all its raisers."""
        return type(self)(str(self), cause=self.cause, reason=self.reason, remedy=self.remedy)

    def by(self, row: str) -> Self:
        """This error, counted under ``row``."""
        self.row = row
        return self


class BadRequest(HubError):
    """An argument is missing, malformed or out of range."""

    text = "The request is not valid."


class BadApiVersion(BadRequest):
    """``api-version`` is missing on a service path, or is no date."""

    text = "The api-version is missing or not valid."


class InvalidFilter(BadRequest):
    """A filter that no reader link may carry (L-A19)."""

    text = "The filter is not valid."


class FormatError(BadRequest):
    """A body that is not the JSON it should be."""

    text = "The body could not be read."


class QueryInvalid(BadRequest):
    """A query or condition that cannot be read. Its text tells place and reason: both are of the asker's own text."""

    text = "The query is not valid."


class DefinedMultipleTimes(BadRequest):
    """A bulk request that names one identity twice."""

    text = "The request names this identity more than once."


class BulkRefused(BadRequest):
    """A bulk request that is not one: no list, or too long a list."""

    text = "The bulk request is not valid."


class EgressRefused(BadRequest):
    """An address that the hub may not reach by itself: private, or not opened by the settings."""

    text = "The hub may not reach this address."


class UploadsOff(BadRequest):
    """The hub keeps no files (device-protocols 5.4)."""

    text = "This hub takes no files."


class UnknownUpload(BadRequest):
    """A correlation id that the device was not given. Another device's is as unknown as none (device-protocols 5.4)."""

    text = "The correlationId is not known."


class UploadExpired(BadRequest):
    """The time for the upload is over."""

    text = "The time for this upload is over."


class InvalidBlockList(BadRequest):
    """A list of blocks that cannot be read, or that names one which was not put."""

    text = "The list of blocks is not valid."


class ChecksumMismatch(BadRequest):
    """What came is not what the sender's checksum is of."""

    text = "The content does not have the checksum that was sent with it."


class RequestRefused(BadRequest):
    """A certificate request that the issuer does not sign. Its text tells why: all of it is the asker's own."""

    text = "The certificate request is not acceptable."


class Unauthorized(HubError):
    """No credential, or one that proves nothing: unknown identity, wrong key, expired. One answer for all (L-I1)."""

    text = "Not authorised."


class DeviceDisabled(Unauthorized):
    """A good credential of a disabled identity (device-protocols 3.2)."""

    text = "Not authorised."


class DeviceBlocked(DeviceDisabled):
    """A good credential of a device that a block list names, or an allow list does not, or that has expired."""

    text = "Not authorised."


class UrlRefused(Unauthorized):
    """A signed URL that is not genuine, has expired, or is for another file."""

    text = "The signed URL is not valid."


class Forbidden(HubError):
    """A genuine credential that lacks the right (401002)."""

    text = "The credential does not allow this operation."


class QuotaExceeded(HubError):
    """A count that the hub keeps below a limit would pass it."""

    text = "A quota of this hub is used up."


class QueueFull(HubError):
    """An identity's queue of cloud-to-device messages is at its limit (L-D6)."""

    text = "The device's queue of messages is full."


class TooManyUploads(HubError):
    """A device has as many uploads in progress as it may (device-protocols 5.4)."""

    text = "Too many uploads of this device are in progress."


class DeviceNotFound(HubError):
    text = "The device is not registered."


class ModuleNotFound(HubError):
    text = "The module is not registered."


class DeviceNotOnline(HubError):
    """A method for a device that is not connected, or does not listen for methods."""

    text = "The device is not online."


class DeviceConnectionClosed(HubError):
    """A device that went while its answer was awaited."""

    text = "The device's connection was closed before it answered."


class DeviceTimeout(HubError):
    """A device that did not answer in time."""

    text = "The device did not answer in time."


class JobNotFound(HubError):
    text = "There is no such job."


class JobAlreadyExists(HubError):
    text = "A job with this id exists already."


class ConfigurationNotFound(HubError):
    text = "There is no such configuration."


class ConfigurationAlreadyExists(HubError):
    text = "A configuration with this id exists already."


class EnrolmentNotFound(HubError):
    text = "There is no such enrollment."


class RegistrationNotFound(HubError):
    text = "There is no such registration."


class EnrolmentExists(HubError):
    """An enrolment of this id, or one that what is exclusive belongs to (provisioning-and-pki 1.10, 2.1)."""

    text = "An enrollment with this id exists already."


class EnrolmentQuota(HubError):
    """As many enrolments or groups as may be (provisioning-and-pki 2.7)."""

    text = "There are as many enrollments as there may be."


class NotAdmitted(HubError):
    """A good credential of a group whose own bounds leave the device out."""

    text = "The enrollment does not admit this device."


class AllocationFailed(HubError):
    """Whoever allocates gave no answer that can be used (400207)."""

    text = "The custom allocation failed."


class NoHub(HubError):
    """There is no hub to assign the device to (400208)."""

    text = "There is no hub to assign the device to."


class HubNotAuthorized(HubError):
    """A linked hub does not take the policy that it was linked with (400209)."""

    text = "The provisioning service is not authorized at the hub."


class IdentityOfAnother(HubError):
    """The hub knows an identity of this name that the enrolment did not make (provisioning-and-pki 1.3, step 8)."""

    text = "The device id is in use already."


class JobQuotaExceeded(HubError):
    """An import or export job waits or runs already (service-protocols 2.9)."""

    text = "An import or export job is running already."


class ContainerRefused(HubError):
    """A container of blobs that does not do what an import or export job asks of it."""

    text = "The container refuses it."


class ContainerUnreachable(HubError):
    """A container of blobs that does not answer, or not now."""

    text = "The container does not answer."


class TooManyJobs(HubError):
    """As many jobs wait or run as may (L-O1)."""

    text = "Too many jobs are waiting or running."
    retry_after = 60


class TooManyModules(HubError):
    text = "This device has as many modules as a device may have."


class NotFound(HubError):
    """An address, path, partition or consumer group that does not exist."""

    text = "There is nothing at this address."


class BlobNotFound(NotFound):
    text = "There is no such file."


class NotImplementedHere(HubError):
    text = "This operation is not implemented."


class MethodNotAllowed(HubError):
    text = "This method is not allowed here."


class RequestTimeout(HubError):
    """A request that came too slowly (L-L19)."""

    text = "The request was not complete in time."


class DeviceAlreadyExists(HubError):
    text = "A device with this id exists already."


class ModuleAlreadyExists(HubError):
    text = "A module with this id exists already on this device."


class AuthorityExists(HubError):
    text = "This certificate, or one of this name, is registered already."


class KeyInUse(HubError):
    """A certificate request for a key that another identity, or the asker itself, has used already."""

    text = "The key of this request is in use already."


class AuthorityInUse(HubError):
    """An authority that spoke for devices lately is deleted by force alone."""

    text = "Devices were let in by this authority lately."


class PolicyNotFound(HubError):
    """A shared access policy that is not there."""

    text = "There is no policy of this name."


class BlobExists(HubError):
    """A file of this name is there and was not to be replaced, or a folder has the name."""

    text = "There is something of this name already."


class PreconditionFailed(HubError):
    text = "Precondition failed: the supplied etag is not the current one."


class LockLost(HubError):
    """The lock of a cloud-to-device message has lapsed, or the message is gone (device-protocols 5.3)."""

    text = "The message is not locked by this token any more."


class MessageTooLarge(HubError):
    text = "The message is too large."


class RangeNotSatisfiable(HubError):
    """A range of a file that lies behind its end."""

    text = "The range is not in the file."


class HeadTooLarge(HubError):
    """A request head over its limit in bytes or headers (L-H2)."""

    text = "The request head is too large."


class UriTooLong(HubError):
    """A request target over its limit (L-H2)."""

    text = "The address is too long."


class UnsupportedEncoding(HubError):
    """A Content-Encoding that the hub does not read (L-H4)."""

    text = "This content encoding is not supported."


class Misdirected(HubError):
    """A Host that is none of the hub's names (L-H10)."""

    text = "This host is not served here."


class Throttled(HubError):
    """A rate limit was passed. ``retry_after``: seconds."""

    text = "Too many requests."
    retry_after = 1


class ResourceLimit(HubError):
    """Too many links, receivers or subscriptions."""

    text = "Too many of these are open."


class TooManyTokens(HubError):
    """More authorisations put on one connection than it may hold (device-protocols 4.4)."""

    text = "Too many tokens are held by this connection."


class LinkStolen(HubError):
    """A newer link of the same identity, or a higher owner level, took over."""

    text = "A newer link took over."


class StoreUnavailable(HubError):
    """The hub cannot make a write durable now: disk full, store failing. The peer repeats later."""

    text = "The hub cannot store this now."
    retry_after = 5


class KeyUnavailable(HubError):
    """The private key of an authority cannot be used now: its file or its token is not there."""

    text = "The hub cannot sign this now."
    retry_after = 60


class EventLogDamaged(StoreUnavailable):
    """Stored events do not match their checksum or are missing. Names the exact range; nothing is skipped."""

    text = "A part of the event log cannot be read."


class ServerBusy(HubError):
    """Overload or shutting down."""

    text = "The hub is busy."
    retry_after = 5


class OnWire(NamedTuple):
    """One refusal on every surface."""

    http: int  # RFC 9110 status
    number: int  # the six digits that clients and operators know
    name: str  # as in the client enums
    amqp: str  # error condition
    connack: int  # MQTT 3.1.1 return code; after CONNECT the socket is closed instead
    mqtt5: int = 0x83  # MQTT 5 reason code of CONNACK and DISCONNECT; where none fits: implementation specific


ON_WIRE: dict[type[HubError], OnWire] = {
    BadRequest: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    BadApiVersion: OnWire(400, 400001, "InvalidProtocolVersion", "com.microsoft:argument-error", 2),
    InvalidFilter: OnWire(400, 400004, "ArgumentInvalid", "amqp:invalid-field", 2),
    FormatError: OnWire(400, 400006, "IotHubFormatError", "amqp:decode-error", 2),
    QueryInvalid: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    DefinedMultipleTimes: OnWire(400, 400011, "DeviceDefinedMultipleTimes", "com.microsoft:argument-error", 2),
    BulkRefused: OnWire(400, 400013, "BulkRegistryOperationFailure", "com.microsoft:argument-error", 2),
    EgressRefused: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    UploadsOff: OnWire(400, 400014, "StorageNotConfigured", "com.microsoft:argument-error", 2),
    UnknownUpload: OnWire(400, 400015, "InvalidFileUploadCorrelationId", "com.microsoft:argument-error", 2),
    UploadExpired: OnWire(400, 400016, "ExpiredFileUploadCorrelationId", "com.microsoft:argument-error", 2),
    InvalidBlockList: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    ChecksumMismatch: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    RequestRefused: OnWire(400, 400037, "CredentialRequestRefused", "com.microsoft:argument-error", 2),
    Unauthorized: OnWire(401, 401003, "IotHubUnauthorized", "amqp:unauthorized-access", 5, 0x87),
    DeviceDisabled: OnWire(401, 401003, "IotHubUnauthorized", "amqp:unauthorized-access", 3, 0x8A),
    DeviceBlocked: OnWire(401, 401003, "IotHubUnauthorized", "amqp:unauthorized-access", 3, 0x8A),
    UrlRefused: OnWire(401, 401003, "IotHubUnauthorized", "amqp:unauthorized-access", 5, 0x87),
    Forbidden: OnWire(401, 401002, "IotHubUnauthorizedAccess", "amqp:unauthorized-access", 5, 0x87),
    QuotaExceeded: OnWire(403, 403002, "IotHubQuotaExceeded", "amqp:resource-limit-exceeded", 3, 0x97),
    QueueFull: OnWire(403, 403004, "DeviceMaximumQueueDepthExceeded", "amqp:resource-limit-exceeded", 3),
    TooManyUploads: OnWire(
        403, 403006, "DeviceMaximumActiveFileUploadLimitExceeded", "amqp:resource-limit-exceeded", 3
    ),
    DeviceNotFound: OnWire(404, 404001, "DeviceNotFound", "amqp:not-found", 5, 0x87),
    ModuleNotFound: OnWire(404, 404010, "ModuleNotFound", "amqp:not-found", 5, 0x87),
    PolicyNotFound: OnWire(404, 404013, "PolicyNotFound", "amqp:not-found", 3),  # of the hub's own administration
    JobNotFound: OnWire(404, 404002, "JobNotFound", "amqp:not-found", 3),
    # clients know the name; no source tells its number
    JobAlreadyExists: OnWire(409, 409010, "DeviceJobAlreadyExists", "amqp:resource-locked", 3),
    ConfigurationNotFound: OnWire(404, 404012, "ConfigurationNotFound", "amqp:not-found", 3),  # as above
    ConfigurationAlreadyExists: OnWire(409, 409012, "ConfigurationAlreadyExists", "amqp:resource-locked", 3),
    EnrolmentNotFound: OnWire(404, 404201, "EnrollmentNotFound", "amqp:not-found", 5),
    RegistrationNotFound: OnWire(404, 404202, "RegistrationNotFound", "amqp:not-found", 5),
    # no source tells the next four numbers
    EnrolmentExists: OnWire(409, 409201, "EnrollmentAlreadyExists", "amqp:resource-locked", 3),
    EnrolmentQuota: OnWire(403, 403201, "EnrollmentQuotaExceeded", "amqp:resource-limit-exceeded", 3),
    NotAdmitted: OnWire(403, 403202, "RegistrationNotAdmitted", "amqp:not-allowed", 5),
    IdentityOfAnother: OnWire(409, 409204, "DeviceIdInUse", "amqp:resource-locked", 3),
    AllocationFailed: OnWire(400, 400207, "CustomAllocationFailed", "amqp:internal-error", 3),
    NoHub: OnWire(400, 400208, "IotHubNotFound", "amqp:internal-error", 3),
    HubNotAuthorized: OnWire(400, 400209, "LinkedHubUnauthorized", "amqp:internal-error", 3),
    JobQuotaExceeded: OnWire(403, 403003, "JobQuotaExceeded", "amqp:resource-limit-exceeded", 3),
    ContainerRefused: OnWire(400, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    ContainerUnreachable: OnWire(503, 503001, "ServiceUnavailable", "amqp:resource-limit-exceeded", 3),
    TooManyJobs: OnWire(429, 429004, "ThrottlingMaxActiveJobCountExceeded", "amqp:resource-limit-exceeded", 3),
    DeviceNotOnline: OnWire(404, 404103, "DeviceNotOnline", "amqp:not-found", 3),
    DeviceConnectionClosed: OnWire(404, 404104, "DeviceConnectionClosedRemotely", "amqp:not-found", 3),
    DeviceTimeout: OnWire(504, 504101, "GatewayTimeout", "com.microsoft:timeout", 3),
    TooManyModules: OnWire(413, 413003, "TooManyModulesOnDevice", "amqp:resource-limit-exceeded", 3),
    NotFound: OnWire(404, 404000, "NotFound", "amqp:not-found", 5),
    BlobNotFound: OnWire(404, 404000, "NotFound", "amqp:not-found", 5),
    NotImplementedHere: OnWire(501, 501000, "NotImplemented", "amqp:not-implemented", 3),
    MethodNotAllowed: OnWire(405, 405000, "MethodNotAllowed", "amqp:not-allowed", 3),
    RequestTimeout: OnWire(408, 408001, "RequestTimeout", "com.microsoft:timeout", 3),
    AuthorityExists: OnWire(409, 409400, "CertificateAlreadyExists", "com.microsoft:device-already-exists", 3),
    AuthorityInUse: OnWire(409, 409401, "CertificateInUse", "amqp:resource-locked", 3),
    KeyInUse: OnWire(409, 409402, "KeyInUse", "amqp:resource-locked", 3),
    DeviceAlreadyExists: OnWire(409, 409001, "DeviceAlreadyExists", "com.microsoft:device-already-exists", 3),
    ModuleAlreadyExists: OnWire(409, 409301, "ModuleAlreadyExistsOnDevice", "com.microsoft:device-already-exists", 3),
    BlobExists: OnWire(409, 409000, "Conflict", "amqp:resource-locked", 3),
    LinkStolen: OnWire(409, 409002, "LinkCreationConflict", "amqp:link:stolen", 3, 0x8E),
    PreconditionFailed: OnWire(412, 412001, "PreconditionFailed", "com.microsoft:precondition-failed", 3),
    LockLost: OnWire(412, 412002, "DeviceMessageLockLost", "com.microsoft:message-lock-lost", 3),
    MessageTooLarge: OnWire(413, 413001, "MessageTooLarge", "amqp:link:message-size-exceeded", 3, 0x95),
    RangeNotSatisfiable: OnWire(416, 416000, "InvalidRange", "com.microsoft:argument-error", 2),
    HeadTooLarge: OnWire(431, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    UriTooLong: OnWire(414, 400004, "ArgumentInvalid", "com.microsoft:argument-error", 2),
    UnsupportedEncoding: OnWire(415, 400103, "InvalidContentEncodingOrType", "com.microsoft:argument-error", 3),
    Misdirected: OnWire(421, 404000, "NotFound", "amqp:not-found", 5, 0x87),
    Throttled: OnWire(429, 429001, "ThrottlingException", "com.microsoft:device-container-throttled", 3, 0x96),
    ResourceLimit: OnWire(403, 403002, "IotHubQuotaExceeded", "amqp:resource-limit-exceeded", 3, 0x97),
    TooManyTokens: OnWire(403, 403005, "IotHubMaxCbsTokenExceeded", "amqp:resource-limit-exceeded", 3),
    StoreUnavailable: OnWire(503, 503001, "ServiceUnavailable", "amqp:resource-limit-exceeded", 3, 0x89),
    KeyUnavailable: OnWire(503, 503010, "SigningKeyUnavailable", "amqp:internal-error", 3, 0x89),
    EventLogDamaged: OnWire(503, 503001, "ServiceUnavailable", "amqp:internal-error", 3, 0x89),
    ServerBusy: OnWire(503, 503001, "ServiceUnavailable", "amqp:connection:forced", 3, 0x89),
}
BUG = OnWire(500, 500001, "ServerError", "amqp:internal-error", 3, 0x80)


def on_wire(error: BaseException) -> OnWire:
    """The row for ``error``; ``BUG`` for anything that is not a HubError, so that no detail leaks."""
    return ON_WIRE.get(type(error), BUG)  # type: ignore[arg-type]  # an unknown type is the default's case


# The rows of limits-and-faults that refusals are counted by (L-R10), where the place that refuses names no other.
ROWS: dict[type[HubError], str] = {
    HubError: "L-R2",  # nothing is carried out: what has no row of its own
    BadApiVersion: "L-H7",
    InvalidFilter: "L-A19",
    FormatError: "L-D1",
    QueryInvalid: "L-D9",
    EgressRefused: "L-R8",
    Unauthorized: "L-I1",
    DeviceDisabled: "L-I2",
    Forbidden: "L-R7",
    QuotaExceeded: "L-L25",
    TooManyModules: "L-L25",
    EnrolmentQuota: "L-L25",
    QueueFull: "L-D6",
    LockLost: "L-D7",
    DeviceNotOnline: "L-D8",
    DeviceConnectionClosed: "L-D8",
    DeviceTimeout: "L-D8",
    NotFound: "L-H5",
    MethodNotAllowed: "L-H5",
    RequestTimeout: "L-L19",
    PreconditionFailed: "L-H8",
    MessageTooLarge: "L-H3",
    HeadTooLarge: "L-H2",
    UriTooLong: "L-H2",
    UnsupportedEncoding: "L-H4",
    Misdirected: "L-H10",
    Throttled: "L-O1",
    TooManyJobs: "L-O1",
    ResourceLimit: "L-L15",
    TooManyTokens: "L-L15",
    LinkStolen: "L-M22",
    StoreUnavailable: "L-S4",
    EventLogDamaged: "L-S6",
    ServerBusy: "L-O4",
}


def row_of(error: HubError) -> str:
    """The row that ``error`` is counted by."""
    return error.row or next(ROWS[kind] for kind in type(error).__mro__ if kind in ROWS)
