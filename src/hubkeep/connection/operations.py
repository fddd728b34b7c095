"""The one table of operations: what it is called, on which surface and address, and which permission it needs.

Deny by default: an address that no row names is refused. ``{device}`` in an address limits the operation to the
identity that the credential opens. Source: service-protocols 1.5; device-protocols 3.6, 4.5, 5.
"""

from typing import Final, Literal, NamedTuple

from hubkeep.model import Permission


class Operation(NamedTuple):
    """any_of: holding one of these permissions is enough; empty: open to anybody (said in ``note``)."""

    name: str
    surface: Literal["https", "blobs", "mqtt", "amqp"]  # blobs: https, in the manner of a storage account
    address: str  # METHOD /path, topic, or role and link address
    any_of: tuple[Permission, ...]
    note: str = ""


_READ = (Permission.REGISTRY_READ,)
_WRITE = (Permission.REGISTRY_WRITE,)
_SERVICE = (Permission.SERVICE_CONNECT,)
_DEVICE = (Permission.DEVICE_CONNECT,)
_ALL = (Permission.REGISTRY_READ | Permission.REGISTRY_WRITE | Permission.SERVICE_CONNECT | Permission.DEVICE_CONNECT,)

_REGISTER = (Permission.REGISTER,)
_ENROLMENTS = (Permission.ENROLMENT_READ,)
_LINK = (Permission.PROVISIONING_CONFIG,)
_ENROL = (Permission.ENROLMENT_WRITE,)

_ANY = (*_READ, *_SERVICE, *_DEVICE, *_ENROLMENTS, Permission.REGISTRATION_READ, Permission.PROVISIONING_CONFIG)

OPERATIONS: tuple[Operation, ...] = (
    # identities and statistics
    Operation("devices/list", "https", "GET /devices", _READ),
    Operation("devices/get", "https", "GET /devices/{id}", _READ),
    Operation("devices/put", "https", "PUT /devices/{id}", _WRITE),
    Operation("devices/delete", "https", "DELETE /devices/{id}", _WRITE),
    Operation("devices/bulk", "https", "POST /devices", _WRITE),
    Operation("devices/keys", "https", "POST /devices/keys/regenerate", _WRITE),
    Operation("devices/token", "https", "POST /devices/{id}/tokens", _DEVICE, "makes a token for this device alone"),
    Operation("devices/query", "https", "POST /devices/query", (*_READ, *_SERVICE)),
    Operation("statistics/devices", "https", "GET /statistics/devices", (*_READ, *_SERVICE)),
    Operation("statistics/service", "https", "GET /statistics/service", (*_READ, *_SERVICE)),
    # modules
    Operation("modules/list", "https", "GET /devices/{id}/modules", _READ),
    Operation("modules/get", "https", "GET /devices/{id}/modules/{module}", _READ),
    Operation("modules/put", "https", "PUT /devices/{id}/modules/{module}", _WRITE),
    Operation("modules/delete", "https", "DELETE /devices/{id}/modules/{module}", _WRITE),
    Operation("modules/token", "https", "POST /devices/{id}/modules/{module}/tokens", _DEVICE, "for this module alone"),
    # twins
    Operation("twins/get", "https", "GET /twins/{id}", _SERVICE),
    Operation("twins/patch", "https", "PATCH /twins/{id}", _SERVICE),
    Operation("twins/put", "https", "PUT /twins/{id}", _SERVICE),
    Operation("twins/get/module", "https", "GET /twins/{id}/modules/{module}", _SERVICE),
    Operation("twins/patch/module", "https", "PATCH /twins/{id}/modules/{module}", _SERVICE),
    Operation("twins/put/module", "https", "PUT /twins/{id}/modules/{module}", _SERVICE),
    Operation("twin/request", "mqtt", "PUBLISH $iothub/twin/", _DEVICE, "of the link's own identity; AMQP alike"),
    Operation("twin/attach", "amqp", "both /devices/{device}/twin", _DEVICE),
    # direct methods
    Operation("methods/invoke", "https", "POST /twins/{id}/methods", _SERVICE),
    Operation("methods/invoke/module", "https", "POST /twins/{id}/modules/{module}/methods", _SERVICE),
    Operation("methods/answer", "mqtt", "PUBLISH $iothub/methods/res/", _DEVICE, "of the link's own identity"),
    Operation("methods/attach", "amqp", "both /devices/{device}/methods/devicebound", _DEVICE),
    # scheduled jobs
    Operation("jobs/create", "https", "PUT /jobs/v2/{job}", (*_WRITE, *_SERVICE)),
    Operation("jobs/get", "https", "GET /jobs/v2/{job}", (*_WRITE, *_SERVICE)),
    Operation("jobs/list", "https", "GET /jobs/v2/query", (*_WRITE, *_SERVICE)),
    Operation("jobs/cancel", "https", "POST /jobs/v2/{job}/cancel", (*_WRITE, *_SERVICE)),
    # import and export jobs
    Operation("transfers/create", "https", "POST /jobs/create", _WRITE),
    Operation("transfers/list", "https", "GET /jobs", _WRITE),
    Operation("transfers/get", "https", "GET /jobs/{job}", _WRITE),
    Operation("transfers/cancel", "https", "DELETE /jobs/{job}", _WRITE),
    # digital twins
    Operation("digitaltwins/get", "https", "GET /digitaltwins/{id}", _SERVICE),
    Operation("digitaltwins/patch", "https", "PATCH /digitaltwins/{id}", _SERVICE),
    Operation("digitaltwins/command", "https", "POST /digitaltwins/{id}/commands/{command}", _SERVICE),
    Operation(
        "digitaltwins/command/component",
        "https",
        "POST /digitaltwins/{id}/components/{component}/commands/{command}",
        _SERVICE,
    ),
    # configurations
    Operation("configurations/list", "https", "GET /configurations", (*_READ, *_SERVICE)),
    Operation("configurations/get", "https", "GET /configurations/{configuration}", (*_READ, *_SERVICE)),
    Operation("configurations/put", "https", "PUT /configurations/{configuration}", _WRITE),
    Operation("configurations/delete", "https", "DELETE /configurations/{configuration}", _WRITE),
    Operation("configurations/test", "https", "POST /configurations/testqueries", (*_READ, *_SERVICE)),
    Operation("configurations/apply", "https", "POST /devices/{id}/applyconfigurationcontent", (*_WRITE, *_SERVICE)),
    # device-to-cloud
    Operation("events/post", "https", "POST /devices/{device}/messages/events", _DEVICE),
    Operation("mqtt/connect", "mqtt", "CONNECT {device}", _DEVICE),
    Operation("events/post/module", "https", "POST /devices/{device}/modules/{module}/messages/events", _DEVICE),
    Operation("events/publish", "mqtt", "PUBLISH devices/{device}/messages/events/", _DEVICE),
    Operation("events/send", "amqp", "sender /devices/{device}/messages/events", _DEVICE),
    # cloud-to-device
    Operation("devicebound/send", "https", "POST /devices/{id}/messages/devicebound", _SERVICE),
    Operation(
        "devicebound/send/module", "https", "POST /devices/{id}/modules/{module_id}/messages/devicebound", _SERVICE
    ),
    Operation("devicebound/purge", "https", "DELETE /devices/{id}/commands", _SERVICE),
    Operation("devicebound/receive", "https", "GET /devices/{device}/messages/devicebound", _DEVICE),
    Operation("devicebound/settle", "https", "DELETE /devices/{device}/messages/devicebound/{lock_token}", _DEVICE),
    Operation(
        "devicebound/abandon", "https", "POST /devices/{device}/messages/devicebound/{lock_token}/abandon", _DEVICE
    ),
    Operation(
        "devicebound/receive/module", "https", "GET /devices/{device}/modules/{module}/messages/devicebound", _DEVICE
    ),
    Operation(
        "devicebound/settle/module",
        "https",
        "DELETE /devices/{device}/modules/{module}/messages/devicebound/{lock_token}",
        _DEVICE,
    ),
    Operation(
        "devicebound/abandon/module",
        "https",
        "POST /devices/{device}/modules/{module}/messages/devicebound/{lock_token}/abandon",
        _DEVICE,
    ),
    Operation("feedback/receive", "https", "GET /messages/servicebound/feedback", _SERVICE),
    Operation("feedback/settle", "https", "DELETE /messages/servicebound/feedback/{lock_token}", _SERVICE),
    Operation("feedback/abandon", "https", "POST /messages/servicebound/feedback/{lock_token}/abandon", _SERVICE),
    Operation("devicebound/attach", "amqp", "receiver /devices/{device}/messages/devicebound", _DEVICE),
    Operation("inputs/attach", "amqp", "receiver /devices/{device}/messages/events", _DEVICE),
    Operation("devicebound/transfer", "amqp", "sender /messages/devicebound", _SERVICE),
    Operation("feedback/attach", "amqp", "receiver /messages/servicebound/feedback", _SERVICE),
    Operation("filenotifications/attach", "amqp", "receiver /messages/servicebound/filenotifications", _SERVICE),
    Operation("devicebound/deliver", "mqtt", "SUBSCRIBE devices/{device}/messages/devicebound/#", _DEVICE),
    # file upload
    Operation("files/begin", "https", "POST /devices/{device}/files", _DEVICE),
    Operation("files/notify", "https", "POST /devices/{device}/files/notifications", _DEVICE),
    Operation("files/notify/id", "https", "POST /devices/{device}/files/notifications/{upload}", _DEVICE),
    Operation("files/write", "blobs", "PUT /{container}/{blob}", (), "the URL is signed for one file and an hour"),
    Operation("files/read", "blobs", "GET /{container}/{blob}", _SERVICE, "or a URL signed for this file"),
    Operation("filenotifications/receive", "https", "GET /messages/servicebound/filenotifications", _SERVICE),
    Operation(
        "filenotifications/settle", "https", "DELETE /messages/servicebound/filenotifications/{lock_token}", _SERVICE
    ),
    Operation(
        "filenotifications/abandon",
        "https",
        "POST /messages/servicebound/filenotifications/{lock_token}/abandon",
        _SERVICE,
    ),
    Operation("files/list", "https", "GET /api/devices/{id}/files", _SERVICE),
    # the Event Hubs-compatible endpoint
    Operation("events/read", "amqp", "receiver {events}/ConsumerGroups/{group}/Partitions/{partition}", _SERVICE),
    Operation("events/manage", "amqp", "both {events}/$management", _SERVICE),
    Operation("cbs", "amqp", "both $cbs", (), "where credentials are put; gives no right by itself"),
    # the provisioning service: devices
    Operation("registrations/register", "https", "PUT /{scope}/registrations/{registration}/register", _REGISTER),
    Operation(
        "registrations/poll", "https", "GET /{scope}/registrations/{registration}/operations/{operation}", _REGISTER
    ),
    Operation("registrations/own", "https", "POST /{scope}/registrations/{registration}", _REGISTER),
    Operation("registrations/connect", "mqtt", "CONNECT {scope}/registrations/{registration}", _REGISTER),
    Operation("registrations/request", "mqtt", "PUBLISH $dps/registrations/", _REGISTER, "of the link's own device"),
    Operation("registrations/attach", "amqp", "both {scope}/registrations/{registration}", _REGISTER),
    # the provisioning service: back ends
    Operation("enrolments/put", "https", "PUT /enrollments/{registration}", _ENROL),
    Operation("enrolments/get", "https", "GET /enrollments/{registration}", _ENROLMENTS),
    Operation("enrolments/delete", "https", "DELETE /enrollments/{registration}", _ENROL),
    Operation(
        "enrolments/attestation", "https", "POST /enrollments/{registration}/attestationmechanism", _ENROL, "shows keys"
    ),
    Operation("enrolments/bulk", "https", "POST /enrollments", _ENROL),
    Operation("enrolments/query", "https", "POST /enrollments/query", _ENROLMENTS),
    Operation("groups/put", "https", "PUT /enrollmentgroups/{group}", _ENROL),
    Operation("groups/get", "https", "GET /enrollmentgroups/{group}", _ENROLMENTS),
    Operation("groups/delete", "https", "DELETE /enrollmentgroups/{group}", _ENROL),
    Operation(
        "groups/attestation", "https", "POST /enrollmentgroups/{group}/attestationmechanism", _ENROL, "shows keys"
    ),
    Operation("groups/bulk", "https", "POST /enrollmentgroups", _ENROL),
    Operation("groups/query", "https", "POST /enrollmentgroups/query", _ENROLMENTS),
    Operation("registrations/get", "https", "GET /registrations/{registration}", (Permission.REGISTRATION_READ,)),
    Operation(
        "registrations/delete", "https", "DELETE /registrations/{registration}", (Permission.REGISTRATION_WRITE,)
    ),
    Operation("registrations/query", "https", "POST /registrations/{group}/query", (Permission.REGISTRATION_READ,)),
    Operation("groups/key", "https", "POST /api/enrollmentgroups/{group}/keys/{registration}", _ENROL, "of one device"),
    Operation(
        "admin/provisioning",
        "https",
        "GET /api/provisioning",
        (*_ALL, Permission.PROVISIONING_CONFIG),
        "id scope, linked hubs",
    ),
    Operation(
        "admin/provisioning/hubs",
        "https",
        "GET /api/provisioning/hubs",
        (*_ALL, Permission.PROVISIONING_CONFIG),
        "other hubs, without what opens them",
    ),
    Operation("admin/provisioning/hubs/put", "https", "PUT /api/provisioning/hubs/{name}", _LINK),
    Operation("admin/provisioning/hubs/delete", "https", "DELETE /api/provisioning/hubs/{name}", _LINK),
    # certificates that devices get and renew themselves (EST)
    Operation("est/cacerts", "https", "GET /.well-known/est/cacerts", (), "public certificates only"),
    Operation("est/csrattrs", "https", "GET /.well-known/est/csrattrs", (), "what a request should be like"),
    Operation("est/simpleenroll", "https", "POST /.well-known/est/simpleenroll", _DEVICE, "for itself"),
    Operation("est/simplereenroll", "https", "POST /.well-known/est/simplereenroll", _DEVICE, "for itself"),
    Operation("est/serverkeygen", "https", "POST /.well-known/est/serverkeygen", (), "never done: 501"),
    Operation("est/fullcmc", "https", "POST /.well-known/est/fullcmc", (), "never done: 501"),
    Operation("est/cacerts/label", "https", "GET /.well-known/est/{label}/cacerts", (), "public certificates only"),
    Operation(
        "est/csrattrs/label", "https", "GET /.well-known/est/{label}/csrattrs", (), "what a request should be like"
    ),
    Operation("est/simpleenroll/label", "https", "POST /.well-known/est/{label}/simpleenroll", _DEVICE, "for itself"),
    Operation(
        "est/simplereenroll/label", "https", "POST /.well-known/est/{label}/simplereenroll", _DEVICE, "for itself"
    ),
    Operation("est/serverkeygen/label", "https", "POST /.well-known/est/{label}/serverkeygen", (), "never done: 501"),
    Operation("est/fullcmc/label", "https", "POST /.well-known/est/{label}/fullcmc", (), "never done: 501"),
    # what anybody may know of revocation
    Operation("revocation/list", "https", "GET /crl/{file}", (), "a signed list of serial numbers"),
    Operation("revocation/ask", "https", "POST /ocsp/{authority}", (), "OCSP: whether a serial number was revoked"),
    Operation("revocation/ask/get", "https", "GET /ocsp/{authority}/{request}", (), "the same"),
    # the hub's own administration
    Operation("admin/audit", "https", "GET /api/audit", _ALL, "who did what"),
    Operation("admin/audit/heads", "https", "GET /api/audit/heads", _ALL, "where its chains end"),
    Operation("admin/refusals", "https", "GET /api/refusals", _ALL),
    Operation("admin/replays", "https", "GET /api/replays", _ALL),
    Operation("admin/throttles", "https", "GET /api/throttles", _ALL, "rates, and whom they refused most"),
    Operation("admin/tier", "https", "GET /api/tier", _ALL, "what a tier of the original would have refused"),
    Operation("admin/events", "https", "GET /api/events", _SERVICE, "live events as JSON lines, for hubkeep monitor"),
    Operation("admin/devicebound", "https", "GET /api/devices/{id}/messages", _SERVICE, "what waits, and recent ends"),
    Operation("admin/identities", "https", "GET /api/identities", _ALL, "with keys and twins, for hubkeep export"),
    Operation("admin/groups/list", "https", "GET /api/events/groups", _ALL),
    Operation("admin/groups/put", "https", "PUT /api/events/groups/{name}", _ALL),
    Operation("admin/groups/delete", "https", "DELETE /api/events/groups/{name}", _ALL),
    Operation("admin/sources/list", "https", "GET /api/events/sources", _ALL),
    Operation("admin/sources/put", "https", "PUT /api/events/sources/{name}", _ALL, "which of its own events it tells"),
    Operation("admin/retention/get", "https", "GET /api/events/retention", _ALL),
    Operation("admin/retention/patch", "https", "PATCH /api/events/retention", _ALL, "what it keeps, and how long"),
    Operation("admin/cas/list", "https", "GET /api/cas", _ALL),
    Operation("admin/cas/get", "https", "GET /api/cas/{name}", _ALL),
    Operation("admin/cas/put", "https", "PUT /api/cas/{name}", _ALL),
    Operation("admin/cas/delete", "https", "DELETE /api/cas/{name}", _ALL),
    Operation("admin/cas/challenge", "https", "POST /api/cas/{name}/challenge", _ALL),
    Operation("admin/cas/proof", "https", "POST /api/cas/{name}/proof", _ALL),
    Operation("admin/cas/patch", "https", "PATCH /api/cas/{name}", _ALL),
    Operation("admin/cas/state", "https", "POST /api/cas/{name}/state", _ALL),
    Operation("admin/cas/make", "https", "POST /api/cas/{name}/issuer", _ALL),
    Operation("admin/cas/request", "https", "GET /api/cas/{name}/request", _ALL),
    Operation("admin/cas/install", "https", "POST /api/cas/{name}/certificate", _ALL),
    Operation("admin/cas/crl", "https", "GET /api/cas/{name}/crl", _ALL),
    Operation("admin/cas/crl/put", "https", "PUT /api/cas/{name}/crl", _ALL),
    Operation("admin/certificates/issue", "https", "POST /api/certificates", _ALL),
    Operation("admin/certificates/list", "https", "GET /api/certificates", _ALL),
    Operation("admin/certificates/revoke", "https", "POST /api/certificates/revoke", _ALL),
    Operation("admin/certificates/requests", "https", "GET /api/certificates/requests", _ALL),
    Operation("admin/certificates/approve", "https", "POST /api/certificates/requests/{request}/approve", _ALL),
    Operation("admin/certificates/refuse", "https", "POST /api/certificates/requests/{request}/refuse", _ALL),
    Operation("admin/denials/list", "https", "GET /api/denials", _ALL),
    Operation("admin/denials/put", "https", "POST /api/denials", _ALL),
    Operation("admin/denials/delete", "https", "DELETE /api/denials/{mark}", _ALL),
    Operation("admin/access/list", "https", "GET /api/access", _ALL),
    Operation("admin/access/get", "https", "GET /api/access/{name}", _ALL),
    Operation("admin/access/put", "https", "PUT /api/access/{name}", _ALL),
    Operation("admin/access/preview", "https", "POST /api/access/{name}/preview", _ALL),
    Operation("admin/access/delete", "https", "DELETE /api/access/{name}", _ALL),
    Operation("admin/devices/block", "https", "POST /api/devices/{id}/block", _ALL),
    Operation("admin/expiry/get", "https", "GET /api/devices/{id}/expiry", _ALL),
    Operation("admin/expiry/put", "https", "PUT /api/devices/{id}/expiry", _ALL),
    Operation("admin/expiry/delete", "https", "DELETE /api/devices/{id}/expiry", _ALL),
    Operation("admin/credentials", "https", "GET /api/credentials", _ALL, "how keys are used; never the keys"),
    Operation("admin/credentials/rollover", "https", "GET /api/credentials/rollover", _ALL),
    Operation("admin/credentials/old-tls", "https", "GET /api/credentials/old-tls", _ALL),
    Operation("admin/status", "https", "GET /api/status", _ALL),
    Operation("admin/policies", "https", "GET /api/policies", _ALL, "with their keys"),
    Operation("admin/policies/get", "https", "GET /api/policies/{name}", _ALL, "with its keys"),
    Operation("admin/policies/put", "https", "PUT /api/policies/{name}", _ALL),
    Operation("admin/policies/delete", "https", "DELETE /api/policies/{name}", _ALL),
    Operation("admin/policies/regenerate", "https", "POST /api/policies/{name}/regenerate", _ALL),
    Operation("admin/roles/list", "https", "GET /api/roles", _ALL, "who has them"),
    Operation("admin/roles/put", "https", "PUT /api/roles/{name}", _ALL, "give one"),
    Operation("admin/roles/delete", "https", "DELETE /api/roles/{name}", _ALL, "take one away"),
    Operation("people/self", "https", "GET /api/self", _ANY, "who asks, and what they may"),
    Operation("people/page", "https", "GET /auth", (), "for browsers: who one is here, or where to sign in"),
    Operation("people/login", "https", "GET /auth/login", (), "for browsers: to the provider"),
    Operation("people/callback", "https", "GET /auth/callback", (), "for browsers: back from the provider"),
    Operation("people/logout", "https", "POST /auth/logout", (), "for browsers: from the hub's own page"),
    Operation("people/sign-in", "https", "GET /api/sign-in", (), "where people sign in"),
    Operation("admin/sealing", "https", "GET /api/sealing", _ALL, "never a key"),
    Operation("admin/sealing/reseal", "https", "POST /api/sealing/reseal", _ALL),
    Operation("admin/posture", "https", "GET /api/posture", _READ, "what is weak, with names of devices; never a key"),
    Operation("admin/posture/run", "https", "POST /api/posture/runs", _ALL, "a report of which the outcome is kept"),
    Operation("admin/posture/history", "https", "GET /api/posture/runs", _READ),
    Operation("admin/posture/accept", "https", "PUT /api/posture/waivers/{check}", _ALL, "a risk, until a day"),
    Operation("admin/posture/withdraw", "https", "DELETE /api/posture/waivers/{check}", _ALL),
    Operation("admin/posture/confirm", "https", "PUT /api/posture/confirmations/{fact}", _ALL, "that it was done"),
    Operation("admin/openapi", "https", "GET /openapi.json", (), "the same for every hub, published with the source"),
    Operation("trust/bundle", "https", "GET /trust/{version}", (), "public certificates, signed"),
    Operation("admin/roots/get", "https", "GET /api/roots", _ALL),
    Operation("admin/roots/prepare", "https", "POST /api/roots/prepare", _ALL),
    Operation("admin/roots/rehearsal", "https", "GET /api/roots/rehearsal", _ALL),
    Operation("admin/roots/switch", "https", "POST /api/roots/switch", _ALL),
    Operation("admin/roots/roll-back", "https", "POST /api/roots/roll-back", _ALL),
    Operation("admin/roots/retire", "https", "POST /api/roots/retire", _ALL),
    Operation("admin/roots/finish", "https", "POST /api/roots/finish", _ALL),
    Operation("admin/roots/announce", "https", "POST /api/roots/announce", _ALL),
    Operation("admin/trust-bundle", "https", "GET /api/trust-bundle", (), "public certificates only"),
)

BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}


# plain numbers: this is asked with every request, and the own & of an enum is slow
_NEEDED: Final = {operation.name: tuple(map(int, operation.any_of)) for operation in OPERATIONS}


def allows(permissions: Permission, operation: Operation) -> bool:
    """Whether ``permissions`` hold one of the operation's alternatives."""
    needed, held = _NEEDED[operation.name], int(permissions)
    for each in needed:  # any() would make a generator each time
        if held & each == each:
            return True
    return not needed


def allowed_by(permissions: Permission, operation: Operation) -> int:
    """The first alternative that ``permissions`` hold, as a number; 0: none is needed, or none held."""
    held = int(permissions)
    for each in _NEEDED[operation.name]:
        if held & each == each:
            return each
    return 0
