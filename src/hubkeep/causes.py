"""Every cause that a refusal can have, by its stable name: what it means, and what mends it.

Scripts and tests may rely on the names: ``hubkeep explain`` shows that of each recorded refusal (``cause``), and prints
the entry for ``hubkeep explain NAME``; docs/reference/causes.md is made from this table.

Whoever refuses names the cause: ``raise Unauthorized(cause="token-expired", reason="the token expired 3 hours ago")``.
``reason`` says it of this one case; ``remedy``, where it is left out, is the cure below. Refusals whose class says it
all name none: theirs is the class's own name, ``DeviceNotFound`` is ``device-not-found``.

To add one: a row here, the name at the place that refuses, and a case in tests/security/test_explanations.py that
breaks it over a real socket (or, where that takes much setting up, the test that does, in its table ``ELSEWHERE``).
Tests fail for a row without a place, a place without a row, and a row without a test.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Cause(NamedTuple):
    """means: what went wrong, in one sentence. cure: what mends it in general, for the operator."""

    means: str
    cure: str


_ANEW: Final = "issue the certificate anew; hubkeep cert verify FILE says what is wrong with it"
_TOPICS: Final = "docs/reference/mqtt.md lists the topics and filters of an identity"
_AGAIN: Final = "the client repeats later; Retry-After says when"
_RAISE: Final = "delete what is not used, or raise the limit: docs/reference/limits.md"
_URL: Final = "ask for a new URL: POST /devices/{id}/files"

TOKENS: Final[Mapping[str, Cause]] = {
    "token-missing": Cause(
        "No token was presented where one is needed.",
        "send a shared access signature as password or in Authorization: hubkeep token make prints one",
    ),
    "token-malformed": Cause(
        "What was presented is no shared access signature.", "hubkeep token inspect TOKEN tells what is wrong with it"
    ),
    "token-signature": Cause(
        "The signature of the token matches neither key of the identity.",
        "compare the key with hubkeep connection-string --device ID; sign with the decoded key",
    ),
    "token-expired": Cause(
        "The token's expiry, and the grace after it, are over.", "make a new token; check the clock of the device"
    ),
    "token-wrong-hub": Cause(
        "The token was signed for a host that is no name of this hub.", "sign for one of the names of --host-name"
    ),
    "token-wrong-resource": Cause(
        "The token was signed for another device, module or path than it is used for.",
        "sign for the path of the identity itself: {host}/devices/{id}",
    ),
    "token-names-nobody": Cause(
        "The token names neither a policy nor a device.", "sign for {host}/devices/{id}, or with a policy (skn)"
    ),
    "token-without-policy": Cause(
        "A back end's token names no policy (skn).", "sign with a shared access policy: hubkeep policy list"
    ),
    "token-policy-signature": Cause(
        "The signature of the token matches neither key of the policy that it names.",
        "hubkeep connection-string --policy NAME prints the right key",
    ),
    "token-of-policy": Cause(
        "A policy's token on an address where devices prove themselves.", "sign with the enrolment's own key"
    ),
    "token-for-certificate-identity": Cause(
        "A token for an identity that authenticates by a certificate.",
        "connect with its certificate and without a token, or give the identity symmetric keys",
    ),
    "basic-malformed": Cause(
        "The Authorization header is no Basic credential with a name and a password.",
        "send Basic with the device's id and its token, or show its certificate",
    ),
    "renewal-with-token": Cause(
        "A certificate is renewed with itself; a token came beside it.", "leave the Authorization header out"
    ),
    "token-of-another-policy": Cause(
        "A policy asked for device tokens that another policy signs.", "ask with the policy that is to sign them"
    ),
    "policy-gets-no-certificate": Cause(
        "A policy's token asked for the certificate of a device.", "hubkeep cert issue ID, as an operator"
    ),
    "people-off": Cause(
        "A JSON web token came, and sign-in for people is not set up on this hub.",
        "set people.issuer: hubkeep help operating/people; or use a shared access policy",
    ),
    "pair-locked-out": Cause(
        "Too many failed logins of this identity from this address: the two are refused together for a while.",
        "wait; hubkeep explain ID shows those before it",
    ),
    "source-locked-out": Cause(
        "Too many failed logins from this address: it is closed at accept for a while.",
        "wait for limits.failed_logins_pause seconds; hubkeep explain shows those before it",
    ),
    "authorisation-expired": Cause(
        "The token or certificate ended while connected and was not renewed.", "renew it in time, or connect again"
    ),
}
POLICIES: Final[Mapping[str, Cause]] = {
    "policy-unknown": Cause("There is no policy of this name.", "hubkeep policy list shows those that there are"),
    "policy-key": Cause(
        "The password is the key of no policy of this name.", "hubkeep connection-string --policy NAME prints the key"
    ),
    "policy-of-another-name": Cause(
        "The SASL user name says another policy than the token.", "user name: {policy}@sas.root.{hub}"
    ),
    "policy-network": Cause(
        "The policy may not be used from this address.", "hubkeep policy networks NAME shows from where"
    ),
    "policy-changed": Cause(
        "The policy was given other keys, rights or networks, or was deleted, while it was in use.",
        "connect again with the key that it has now: hubkeep connection-string --policy NAME",
    ),
    "right-missing": Cause(
        "The credential is genuine, and does not hold the right that the operation needs.",
        "use a policy that holds it: docs/reference/operations.md lists the rights, hubkeep policy list the policies",
    ),
    "scope-exceeded": Cause(
        "The credential is limited to a part of the hub that this is not in.",
        "sign for the path that is asked for, or for the whole hub",
    ),
    "link-unauthorised": Cause(
        "No token on this connection allows this link.",
        "put a token for the link's address on $cbs first; one that holds the right",
    ),
}
PEOPLE: Final[Mapping[str, Cause]] = {
    "web-token-malformed": Cause(
        "The bearer token is no signed JSON web token of three parts, or a part of it cannot be read.",
        "send the access token as the provider gave it",
    ),
    "web-token-size": Cause("The web token is too long to be read.", "have the provider put fewer groups into it"),
    "web-token-algorithm": Cause(
        "The web token is signed by an algorithm that is not accepted, or not signed at all.",
        "have the provider sign with one of people.algorithms",
    ),
    "web-token-extension": Cause(
        "The web token insists on an extension (crit) that is not understood here.", "have the provider leave it out"
    ),
    "web-token-type": Cause(
        "The token is of another type than an access token.", "send the access token, not another one"
    ),
    "web-token-issuer": Cause(
        "The web token is of another issuer than people.issuer.",
        "sign in at the issuer that people.issuer names; each letter counts, a slash at its end too",
    ),
    "web-token-key": Cause(
        "The provider has no key of this id for the web token's algorithm.",
        "get a new token; a key that the provider has just made is known here within ten seconds",
    ),
    "web-token-signature": Cause(
        "The web token is not signed by the provider's key that it names.",
        "it was changed on its way, or somebody made it up: get a new one",
    ),
    "provider-away": Cause(
        "The keys of the OpenID Connect provider are not there.",
        "look whether the hub reaches people.issuer; if its keys are at another host: people.key_hosts",
    ),
    "web-token-audience": Cause(
        "The web token was made for somebody else than this hub.",
        "ask the provider for a token for the hub, or name its audience in people.audiences",
    ),
    "web-token-client": Cause(
        "The web token was made for a program that people.clients does not name.",
        "name the client in people.clients, if it may ask the hub",
    ),
    "web-token-times": Cause(
        "The web token has no end, or one of its times is none.", "have the provider put exp into it, in seconds"
    ),
    "web-token-expired": Cause(
        "The web token's end, and the grace after it, are over.", "get a new one; check the hub's clock"
    ),
    "web-token-early": Cause("The web token begins later than now.", "check the clocks of the hub and of the provider"),
    "web-token-names-nobody": Cause("The web token names nobody (sub).", "have the provider put sub into it"),
    "web-token-nonce": Cause("The identity token is of another sign-in, or for another client.", "sign in once more"),
    "sign-in-not-begun": Cause(
        "The browser comes back from a sign-in that it did not begin here, or that took too long.",
        "open /auth/login in this browser once more",
    ),
    "sign-in-refused": Cause(
        "The provider lets nobody in.", "look into the provider's own log; people.client_id must be its public client"
    ),
    "role-missing": Cause(
        "The person has no role that lets them do this.",
        "hubkeep access role assign NAME --role ROLE --person SUB, or --claim groups=NAME",
    ),
    "role-for-other-devices": Cause(
        "The person may do this at some devices only, and this is none of them.",
        "hubkeep access role list tells which devices each role is for",
    ),
    "role-for-some-devices": Cause(
        "The person may do this at some devices only, and it is about the whole hub.",
        "ask with a role that is not limited to some devices",
    ),
    "closed-to-people": Cause(
        "The operation is for devices and policies: no role of a person opens it.",
        "use the device's own credential, or a shared access policy",
    ),
}
IDENTITIES: Final[Mapping[str, Cause]] = {
    "identity-unknown": Cause("The identity is not registered.", "hubkeep device create ID; ids differ by case"),
    "identity-deleted": Cause("The identity was deleted while it was connected.", "hubkeep device create ID"),
    "credentials-replaced": Cause(
        "The keys or thumbprints of the identity were replaced while it was connected.",
        "give the device its new key or certificate",
    ),
    "device-disabled": Cause("The identity is disabled.", "hubkeep device unblock ID"),
    "device-blocked": Cause("A block list names the device.", "hubkeep access list, then hubkeep access show NAME"),
    "device-not-allowed": Cause(
        "There are allow lists, and the device is on none of them.", "hubkeep access allow NAME --device ID"
    ),
    "device-expired": Cause("The day on which the device was to expire has come.", "hubkeep device unblock ID"),
    "taken-over": Cause(
        "A newer connection of the same identity took over.", "let one program connect as one identity; two never rest"
    ),
}
CERTIFICATES: Final[Mapping[str, Cause]] = {
    "certificate-missing": Cause(
        "The identity authenticates by a certificate, and none was presented.",
        "give the client its certificate and key; nothing on the way may end TLS in the hub's place",
    ),
    "certificate-malformed": Cause("The certificate, or one above it, cannot be read.", _ANEW),
    "certificate-weak-key": Cause("The key of the certificate is too weak.", _ANEW),
    "certificate-weak-signature": Cause("The certificate is signed with a weak hash.", _ANEW),
    "certificate-expired": Cause("The certificate's time is over.", "renew the certificate: hubkeep cert renew"),
    "certificate-not-yet-valid": Cause(
        "The certificate's time has not begun.", "check the clocks of the hub and of who issued it"
    ),
    "certificate-thumbprint": Cause(
        "The certificate is none of those registered for the identity.", "hubkeep device update ID --thumbprint FILE"
    ),
    "certificate-name": Cause(
        "The certificate is made out to another name than the identity's.",
        "issue it anew with the identity as its one common name",
    ),
    "certificate-chain": Cause(
        "No path leads from the certificate to a registered and verified authority.",
        "hubkeep cert ca list; let the client present its intermediates, or hubkeep cert ca add NAME FILE",
    ),
    "certificate-usage": Cause("The certificate's usages leave out clients.", "issue it for clients (clientAuth)"),
    "certificate-is-ca": Cause("An authority's certificate was presented as a device's.", _ANEW),
    "certificate-ca-constraint": Cause(
        "An authority above the certificate may not issue it.", "issue by another authority; hubkeep cert verify FILE"
    ),
    "certificate-ca-scope": Cause(
        "The authority may not speak for this identity.", "hubkeep cert ca update NAME --allow ID"
    ),
    "certificate-authority-retires": Cause(
        "The authority retires: it lets in those that it let in before, and nobody else.",
        "issue by another authority, or: hubkeep cert ca state NAME active",
    ),
    "certificate-denied": Cause(
        "The certificate, or one above it, is on the deny-list or was revoked.",
        "enrol the device anew; hubkeep cert allow MARK, if that was wrong",
    ),
    "certificate-unlogged": Cause(
        "The hub's own authority never issued a certificate of this number.",
        "its key may be in other hands: hubkeep cert ca state NAME revoked",
    ),
    "certificate-generation": Cause(
        "The certificate was issued to an identity of this name that is another by now.", "enrol the device anew"
    ),
    "certificate-superseded": Cause(
        "A newer certificate of the identity is in use.", "use the newest; hubkeep cert list --device ID shows them"
    ),
    "certificate-crl-revoked": Cause(
        "The certificate stands on its authority's revocation list.", "issue it anew; whoever revoked it knows why"
    ),
    "certificate-crl-stale": Cause(
        "The authority's revocation list is too old to be relied on.", "hubkeep cert ca crl NAME FILE"
    ),
    "certificate-ocsp-revoked": Cause(
        "The authority's responder says that the certificate is revoked.", "issue it anew; whoever revoked it knows why"
    ),
    "certificate-ocsp-unavailable": Cause(
        "The authority's responder gives no answer, and the authority is set to want one.",
        "mend the responder or its address, or set hubkeep cert ca update NAME --revocation soft",
    ),
    "certificate-of-one-identity": Cause(
        "The certificate has proved another identity on this connection already.", "open a connection for each identity"
    ),
    "authority-distrusted": Cause(
        "The authority that vouched for the device is trusted no more, or for fewer.", "hubkeep cert ca list"
    ),
    "certificates-too-many": Cause("More certificates were asked for in a minute than may be issued.", _AGAIN),
    "approval-awaited": Cause(
        "The certificate request waits for an operator.", "hubkeep cert requests, then approve or refuse it"
    ),
}
PROTOCOLS: Final[Mapping[str, Cause]] = {
    "listener-network": Cause(
        "The listener is closed to this address.", "listeners.networks in the settings says who may connect"
    ),
    "user-name-missing": Cause(
        "An MQTT CONNECT without a user name.", "user name: {host}/{client id}/?api-version=2021-04-12"
    ),
    "user-name-malformed": Cause(
        "The MQTT user name is not of the form that names an identity.",
        "user name: {host}/{client id}/?api-version=2021-04-12",
    ),
    "user-name-of-another": Cause(
        "The MQTT user name names another identity than the client id.",
        "the client id is {device} or {device}/{module}",
    ),
    "authentication-method": Cause(
        "An authentication method of MQTT 5.", "send the token as password, with a user name"
    ),
    "will-refused": Cause(
        "A will that the identity may not leave.", "topic devices/{id}/messages/events/, with QoS 0 or 1"
    ),
    "topic-of-another": Cause("A publish to a topic that is not the identity's own.", _TOPICS),
    "filter-of-another": Cause("A subscription to a filter that is not the identity's own.", _TOPICS),
    "subscriptions-too-many": Cause("More subscriptions than a session may have.", _RAISE),
    "sasl-mechanism": Cause(
        "A SASL mechanism that is not offered.", "use MSSBCBS, ANONYMOUS, PLAIN, or EXTERNAL with a certificate"
    ),
    "events-read-only": Cause(
        "A producer on the event endpoint, which is for reading.", "devices send to /devices/{id}/messages/events"
    ),
    "owner-level": Cause(
        "The partition is read with a higher owner level.", "read with a higher one, or in another consumer group"
    ),
    "receivers-too-many": Cause(
        "As many receivers read this partition in this consumer group as may.", "close some, or make a consumer group"
    ),
    "readers-too-many": Cause("As many live readers are open as may be.", "close some"),
    "credit-missing": Cause(
        "The peer asks and gives no credit for the answers.", "let the client grant credit on its receiving link"
    ),
    "registering-only": Cause(
        "A connection on which a device registers is for that alone.", "open another connection for the hub itself"
    ),
    "url-signature": Cause("The signature of the URL does not match what is asked for.", _URL),
    "url-expired": Cause("The URL's time is over.", _URL),
    "url-over": Cause("The upload of the URL is over, or its device is gone.", _URL),
    "url-of-another-file": Cause("The URL is for another file.", _URL),
    "url-right": Cause("The URL does not allow this operation.", _URL),
}
PROVISIONING: Final[Mapping[str, Cause]] = {
    "provisioning-off": Cause("There is no provisioning service here.", "settings: provisioning"),
    "id-scope": Cause("The id scope is not that of this service.", "hubkeep enroll scope prints it"),
    "enrolment-unproved": Cause(
        "No enrolment is proved by what was presented.", "hubkeep enroll list; compare its key or certificate"
    ),
    "tpm-key-used": Cause(
        "The TPM's key for registering was used before, or is older than five minutes.",
        "let the device begin anew: it is given another one",
    ),
    "enrolment-gone": Cause("The enrolment was deleted meanwhile.", "hubkeep enroll create"),
    "enrolment-not-admitted": Cause(
        "The group's allowedRegistrationIds leave the device out.",
        "enrol the group with them: its member hubkeep.allowedRegistrationIds",
    ),
    "enrolment-over": Cause("The enrolment admits nobody any more.", "enrol it with a later hubkeep.expiresAtUtc"),
    "enrolment-full": Cause(
        "The group has as many devices as it may.", "enrol the group with a larger hubkeep.maxRegistrations"
    ),
    "registration-unproved": Cause(
        "No credential on this connection proves the registration.",
        "SASL PLAIN with a token for it, or its certificate in the TLS handshake",
    ),
    "registration-of-another": Cause(
        "The credential is of another registration.", "every device uses its own registration id and key"
    ),
}
TOKEN_SERVICE: Final[Mapping[str, Cause]] = {
    "device-proof-missing": Cause(
        "A device showed the token service no credential of the kind that its plug-in takes.",
        "send one Authorization header: Bearer for jwt, Basic for table",
    ),
    "device-web-token": Cause(
        "The web token that a device showed proves nothing: its issuer, audience, time, key or signature is not right.",
        "compare it with the section jwt of the token service's settings",
    ),
    "device-callback": Cause("The callback says that a device is not who it says.", "the callback's own log tells why"),
    "device-secret": Cause(
        "There is no such id in the token service's table, or its secret is another.", "hubkeep token-table add ID"
    ),
    "device-proof-of-another": Cause(
        "A device says that it is one and is proved to be another, or to be none that can be.",
        "leave deviceId and moduleId out of the body; see which claim names the device",
    ),
    "device-not-served": Cause(
        "A device is proved, and the hub makes no token for it: not registered, disabled, or with a certificate.",
        "hubkeep device show ID; register_devices registers devices that are new",
    ),
    "device-tokens-too-many": Cause(
        "More requests for tokens in a minute, from an address or for a device, than the token service takes.",
        "per_address and per_device set the bounds",
    ),
}
RATES: Final[Mapping[str, Cause]] = {
    "rate-exceeded": Cause(
        "More was asked for than the rate of the hub, of the device or of the simulated tier allows.",
        "ask less often, or raise throttles in the settings; hubkeep throttle show tells who asks most",
    ),
    "methods-too-many": Cause("Too many method calls are under way.", "wait for answers before calling on"),
    "twin-requests-too-many": Cause("Too many requests about the twin wait.", "wait for answers before asking on"),
    "registrations-too-many": Cause("More requests to register, or questions, than may come in a while.", _AGAIN),
    "registered-meanwhile": Cause("The device registered again while it was being registered.", _AGAIN),
    "query-too-slow": Cause("The query takes too long.", "narrow it by a device id, a tag or a reported property"),
}
# Of refusals whose class says it all.
CLASSES: Final[Mapping[str, Cause]] = {
    "bad-request": Cause("An argument is missing, malformed or out of range.", "the answer's text tells which"),
    "bad-api-version": Cause("api-version is missing, or is no date.", "add ?api-version=2021-04-12"),
    "invalid-filter": Cause("A filter that no reader link may carry.", "filter by offset, sequence number or time"),
    "format-error": Cause("The body is not the JSON that it should be.", "the answer's text tells where"),
    "query-invalid": Cause("The query cannot be read.", "docs/reference/queries.md; the answer's text tells the place"),
    "defined-multiple-times": Cause("A bulk request names one identity twice.", "name each once"),
    "bulk-refused": Cause("A bulk request, or records of one, were refused.", "the answer lists each with its error"),
    "egress-refused": Cause(
        "The hub may not reach this address by itself.", "if it should, name it in the setting egress.allow"
    ),
    "uploads-off": Cause("The hub keeps no files.", "settings: files"),
    "unknown-upload": Cause("The correlation id is none that the device was given.", _URL),
    "upload-expired": Cause("The time for the upload is over.", _URL),
    "invalid-block-list": Cause("The list of blocks cannot be read, or names one that was not put.", "put it first"),
    "checksum-mismatch": Cause("What came is not what the checksum is of.", "send it again"),
    "request-refused": Cause("The certificate request is not acceptable.", "the answer's text tells why"),
    "quota-exceeded": Cause("A count that the hub keeps below a limit would pass it.", _RAISE),
    "queue-full": Cause(
        "As many messages wait for the device as may.", "let the device connect, or hubkeep device purge ID"
    ),
    "too-many-uploads": Cause(
        "As many uploads of the device are in progress as may be.", "notify how each ended, also a failed one"
    ),
    "device-not-found": Cause("The device is not registered.", "hubkeep device list; ids differ by case"),
    "module-not-found": Cause("The module is not registered.", "hubkeep module list ID"),
    "device-not-online": Cause(
        "The device is not connected, or does not listen for methods.",
        "hubkeep device show ID tells when it was; give connectTimeoutInSeconds to wait for it",
    ),
    "device-connection-closed": Cause("The device went while its answer was awaited.", "call again"),
    "device-timeout": Cause("The device did not answer in time.", "give responseTimeoutInSeconds, up to 300"),
    "job-not-found": Cause("There is no such job.", "hubkeep job list"),
    "job-already-exists": Cause("A job with this id exists.", "choose another id"),
    "configuration-not-found": Cause("There is no such configuration.", "hubkeep configuration list"),
    "configuration-already-exists": Cause("A configuration with this id exists.", "send its etag in If-Match"),
    "enrolment-not-found": Cause("There is no such enrolment.", "hubkeep enroll list"),
    "registration-not-found": Cause("There is no such registration.", "register first"),
    "enrolment-exists": Cause(
        "The enrolment, or one that has what is exclusive, exists.", "send its etag in If-Match to change it"
    ),
    "enrolment-quota": Cause("There are as many enrolments as there may be.", _RAISE),
    "allocation-failed": Cause(
        "Whoever allocates gave no usable answer.", "look at the webhook, or allocate otherwise"
    ),
    "hub-not-authorized": Cause(
        "A linked hub does not take the policy that it was linked with.",
        "hubkeep enroll hub add, with a policy that holds RegistryWrite and ServiceConnect",
    ),
    "no-hub": Cause("There is no hub to assign the device to.", "hubkeep enroll hubs"),
    "identity-of-another": Cause(
        "The hub knows an identity of this name that the enrolment did not make.", "delete it, or choose another id"
    ),
    "job-quota-exceeded": Cause("An import or export job waits or runs.", "wait for its end, or cancel it"),
    "container-refused": Cause("The container of blobs refuses what the job asks.", "check the URL's rights and time"),
    "container-unreachable": Cause("The container of blobs does not answer.", "check its address; the job tries again"),
    "too-many-jobs": Cause("As many jobs wait or run as may.", "cancel some, or wait for their end"),
    "too-many-modules": Cause("The device has as many modules as it may.", _RAISE),
    "not-found": Cause("There is nothing at this address.", "compare it with docs/reference/api.md"),
    "blob-not-found": Cause("There is no such file.", "hubkeep device files ID"),
    "not-implemented-here": Cause("The operation is not implemented.", "docs/differences.md lists what is not"),
    "method-not-allowed": Cause("The address knows no such method.", "docs/reference/api.md lists them"),
    "request-timeout": Cause("The request, or the login, came too slowly.", "look at the network of the client"),
    "device-already-exists": Cause("A device with this id exists.", 'change it with If-Match: "*"'),
    "module-already-exists": Cause("A module with this id exists.", 'change it with If-Match: "*"'),
    "authority-exists": Cause("The certificate, or one of its name, is registered.", "hubkeep cert ca list"),
    "key-in-use": Cause("The key of the request has been used.", "every device makes a key of its own"),
    "authority-in-use": Cause("Devices were let in by the authority lately.", "move them first, or delete it by force"),
    "policy-not-found": Cause("There is no policy of this name.", "hubkeep policy list"),
    "blob-exists": Cause("There is something of this name.", "choose another name, or send without If-None-Match"),
    "precondition-failed": Cause("The etag is not the current one.", "read it again, and change what it is now"),
    "lock-lost": Cause("The lock of the message has lapsed, or it is gone.", "settle it within the lock's time"),
    "message-too-large": Cause("The message is larger than it may be.", "send less at once"),
    "range-not-satisfiable": Cause("The range is not in the file.", "ask for its length first"),
    "head-too-large": Cause("The head of the request is too large.", "send fewer or shorter headers"),
    "uri-too-long": Cause("The address is too long.", "send what is long in a body"),
    "unsupported-encoding": Cause("A content encoding that the hub does not read.", "send it uncompressed"),
    "misdirected": Cause("The Host is none of the hub's names.", "name it with --host-name"),
    "too-many-tokens": Cause("More authorisations than one connection may hold.", "open another connection"),
    "store-unavailable": Cause(
        "The hub cannot make a write durable now.", "hubkeep doctor tells why: the disk is full, or fails"
    ),
    "key-unavailable": Cause("The private key of an authority cannot be used now.", "put its file or token back"),
    "event-log-damaged": Cause("A part of the event log cannot be read.", "restore it from a backup: hubkeep restore"),
    "server-busy": Cause("The hub is busy, or ends a peer that does not read.", _AGAIN),
    "hub-error": Cause("The hub failed.", "look into its log, by the tracking id; report it"),
}
CAUSES: Final[Mapping[str, Cause]] = {
    **TOKENS,
    **POLICIES,
    **PEOPLE,
    **IDENTITIES,
    **CERTIFICATES,
    **PROTOCOLS,
    **PROVISIONING,
    **TOKEN_SERVICE,
    **RATES,
    **CLASSES,
}
GROUPS: Final[Mapping[str, Mapping[str, Cause]]] = {
    "Tokens": TOKENS,
    "Policies": POLICIES,
    "People": PEOPLE,
    "Identities": IDENTITIES,
    "Certificates": CERTIFICATES,
    "Protocols": PROTOCOLS,
    "Provisioning": PROVISIONING,
    "The token service": TOKEN_SERVICE,
    "Rates": RATES,
    "What the class of the refusal says": CLASSES,
}
