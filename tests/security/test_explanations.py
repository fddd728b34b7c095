"""One test for each cause that a refusal can have: break it over a real socket, then read cause and cure.

To add one: a row in hubkeep.causes, and a case in ``CASES``: a function that takes ``Breaker`` and gets itself refused.
A case that takes much setting up may stay where it is: mark that test ``@pytest.mark.explains("name")``; it must read
the refusal back and check why. Refusals whose class says it all have their cases in conversations/test_error_table.py.
"""

import ast
import datetime as dt
import functools
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from conversations import test_error_table
from conversations.amqp_peer import AmqpPeer, device_key, events_token, selector
from conversations.certificates import Certificate, register, signed_with_sha1
from conversations.file_uploads import begin, put_blob, put_list, url
from conversations.https_peer import VERSION, Answer, request
from conversations.mqtt_peer import USER_NAME, MqttPeer, connect, eventually, publish, subscribe, tls_socket
from conversations.own_certificates import OwnCertificate, asked, csr
from conversations.provisioning_peer import derived, enrol, enrol_group, service, symmetric
from conversations.provisioning_peer import register as ask_to_register
from conversations.provisioning_peer import token as registration_token
from hubkeep import errors
from hubkeep.causes import CAUSES, CLASSES
from hubkeep.cli.examples import EXAMPLES
from hubkeep.cli.main import app
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from hubkeep.wire.amqp.performatives import Detach

TESTS: Final = Path(__file__).parent.parent
SOURCE: Final = Path(errors.__file__).parent
# What proves or allows somebody, and rates: the words for it never reach the peer, so the cause must have a name.
NAMED: Final = {
    "Unauthorized",
    "DeviceDisabled",
    "DeviceBlocked",
    "UrlRefused",
    "Forbidden",
    "NotAdmitted",
    "Throttled",
    "LinkStolen",
    "ResourceLimit",
}
OLD: Final = (-400, -1)  # days
# Causes whose own test does not read the explanation back yet. Only ever shorter.
NOT_YET: Final = frozenset(
    {
        "allocation-failed",
        "approval-awaited",
        "authentication-method",
        "authority-distrusted",
        "authority-in-use",
        "certificate-of-one-identity",
        "certificates-too-many",
        "container-refused",
        "container-unreachable",
        "credit-missing",
        "defined-multiple-times",
        "enrolment-gone",
        "enrolment-quota",
        "event-log-damaged",
        "head-too-large",
        "hub-error",
        "job-quota-exceeded",
        "key-unavailable",
        "misdirected",
        "no-hub",
        "provisioning-off",
        "query-too-slow",
        "readers-too-many",
        "registered-meanwhile",
        "registrations-too-many",
        "request-timeout",
        "server-busy",
        "store-unavailable",
        "too-many-tokens",
        "twin-requests-too-many",
        "uploads-off",
        "url-of-another-file",
    }
)
FAR: Final = 4_000_000_000
NEW_KEY: Final = b64encode(b"n" * 32).decode()


class Breaker:
    """A hub, and everything that it takes to be refused by it. ``device`` is one that no other case uses."""

    def __init__(self, hub: HubInThread, folder: Path) -> None:
        self.hub, self.folder, self.device = hub, folder, ""

    # -- MQTT --------------------------------------------------------------------------------------------------------

    def login(
        self,
        password: str | None = None,
        *,
        device: str = "",
        user: str | None = "",
        certificate: Certificate | OwnCertificate | None = None,
        **options: Any,
    ) -> Any:
        """One CONNECT; what the hub answers. user: empty for the right one."""
        name = device or self.device
        named = USER_NAME.format(host=self.hub.host_name, client_id=name) if user == "" else user
        file = certificate.file(self.folder) if certificate is not None else None
        with MqttPeer(self.hub, tls_socket(self.hub, 8883, file)) as peer:
            peer.send(connect(name, named, password, **options))
            return peer.read()

    def connected(self, *sent: bytes) -> None:
        """A device that logs in, sends this, and is cut off."""
        with MqttPeer.logged_in(self.hub, self.device) as peer:
            for each in sent:
                peer.send(each)
            while peer.read() is not None:
                pass

    def cut(self, then: Callable[[], object]) -> None:
        """A device that is connected, and cut off by what ``then`` changes."""
        with MqttPeer.logged_in(self.hub, self.device) as peer:
            then()
            while peer.read() is not None:
                pass

    def certified(self, certificate: Certificate, *, ca: bool = False, **presented: Any) -> None:
        """An X.509 device that is refused with this certificate."""
        register(self.hub, self.device, *(() if ca else (certificate.sha256,)))
        self.login(certificate=presented.get("shown", certificate))

    # -- tokens ------------------------------------------------------------------------------------------------------

    def key(self) -> bytes:
        return device_key(self.hub, self.device)

    def signed(self, resource: str = "", key: bytes | None = None, **options: Any) -> str:
        own = self.key()  # the device exists from now on
        return self.hub.token(resource or f"devices/{self.device}", key=key or own, **options)

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        return request(self.hub, method, f"{path}{'&' if '?' in path else '?'}{VERSION}", body, **options)

    def policy(self, rights: str, **members: Any) -> tuple[str, bytes]:
        """A policy of this case; its name and primary key."""
        answer = request(self.hub, "PUT", f"/api/policies/{self.device}", {"rights": rights, **members})
        assert answer.status == 200, answer
        return self.device, sas.parse_connection_string(self.hub.policy_connection_string(self.device)).key

    def change(self, **members: Any) -> None:
        body = {"deviceId": self.device, **members}
        assert self.ask("PUT", f"/devices/{self.device}", body, headers={"If-Match": "*"}).status == 200

    # -- AMQP --------------------------------------------------------------------------------------------------------

    def link(self, token: str, address: str, *, receiver: bool = False, **options: Any) -> None:
        with AmqpPeer(self.hub).opened() as peer:
            if token:
                peer.authorised(token)
            peer.refused(address, handle=0, receiver=receiver, **options)

    def plain(self, user: str, password: str) -> None:
        with AmqpPeer(self.hub) as peer:
            assert peer.sasl("PLAIN", f"\0{user}\0{password}".encode()) == 1

    def registering(self, address: str) -> None:
        """A device that registers over AMQP, and asks for a link to ``address``."""
        with AmqpPeer(self.hub) as peer:
            shown = registration_token(self.hub, self.device, b"p" * 32)
            assert peer.sasl("PLAIN", f"\0{self.hub.id_scope}/registrations/{self.device}\0{shown}".encode()) == 0
            peer.opened().refused(address, handle=0)


def sees(on: Breaker, verdict: str) -> None:
    on.hub.create_device(on.device)
    body: dict[str, Any] = {"verdict": verdict, "devices": [on.device if verdict == "block" else "nobody"]}
    assert request(on.hub, "PUT", f"/api/access/{on.device[:60]}", body).status == 200
    on.login(on.signed())
    assert request(on.hub, "DELETE", f"/api/access/{on.device[:60]}").status == 204


def expired_device(on: Breaker) -> None:
    on.hub.create_device(on.device)
    at = on.hub.clock.now() + 60
    stamp = dt.datetime.fromtimestamp(at, dt.UTC).isoformat()
    answer = request(on.hub, "PUT", f"/api/devices/{on.device}/expiry", {"at": stamp, "reason": "the fair is over"})
    assert answer.status == 200, answer
    on.hub.clock.move(90)
    on.login(on.signed())


def taken_over(on: Breaker) -> None:
    on.cut(lambda: MqttPeer.logged_in(on.hub, on.device).sock.close())  # noqa: PLW0108  # connects later


def by_key_text(on: Breaker) -> None:
    name, _ = on.policy("RegistryRead")
    on.ask("GET", "/devices", token=sas.make(on.hub.host_name, b"w" * 32, FAR, name))


def from_elsewhere(on: Breaker) -> None:
    name, key = on.policy("RegistryRead", networks={"allow": ["192.0.2.0/24"], "deny": []})
    on.ask("GET", "/devices", token=sas.make(on.hub.host_name, key, FAR, name))


def policy_changed(on: Breaker) -> None:
    name, key = on.policy("ServiceConnect")
    token = sas.make(on.hub.host_name, key, int(on.hub.clock.now()) + 3600, name)
    with AmqpPeer(on.hub).opened().authorised(token) as peer:
        peer.attached("/messages/serviceBound/feedback", handle=0, receiver=True)
        assert request(on.hub, "DELETE", f"/api/policies/{name}", headers={"If-Match": "*"}).status == 204
        assert peer.expect(Detach)


def owner_level(on: Breaker) -> None:
    where = "hubkeep-events/ConsumerGroups/$Default/Partitions/0"
    with AmqpPeer.reader(on.hub) as peer:
        peer.attached(where, handle=0, receiver=True, properties={"com.microsoft:epoch": 7})
        peer.refused(where, handle=1, receiver=True, properties={"com.microsoft:epoch": 3})


def unknown_mechanism(on: Breaker) -> None:
    with AmqpPeer(on.hub) as peer:
        assert peer.sasl("CRAM-MD5", b"x") == 1


def too_many_receivers(on: Breaker) -> None:
    where = "hubkeep-events/ConsumerGroups/$Default/Partitions/1"
    with AmqpPeer.reader(on.hub) as peer:
        for handle in range(5):
            peer.attached(where, handle=handle, receiver=True)
        peer.refused(where, handle=5, receiver=True)


def upload(on: Breaker, change: Callable[[str], str], **options: Any) -> None:
    info = begin(on.hub, on.device)
    answer = put_blob(on.hub, change(url(info)), **options)
    assert answer.status in {401, 403}, answer


def over_upload(on: Breaker) -> None:
    info = begin(on.hub, on.device)
    on.ask("DELETE", f"/devices/{on.device}", headers={"If-Match": "*"})
    assert put_blob(on.hub, url(info)).status in {401, 403, 404}


def expired_url(on: Breaker) -> None:
    info = begin(on.hub, on.device)
    on.hub.clock.move(3700)
    put_blob(on.hub, url(info))


def certificate_name(on: Breaker) -> None:
    other = OwnCertificate.issued(on.hub, registered(on, f"{on.device}-other"))
    register(on.hub, on.device)
    on.login(certificate=other)


def registered(on: Breaker, name: str) -> str:
    register(on.hub, name)
    return name


def live_expiry(on: Breaker) -> None:
    with MqttPeer(on.hub) as peer:
        user = USER_NAME.format(host=on.hub.host_name, client_id=on.device)
        peer.send(connect(on.device, user, on.signed(seconds=60), keep_alive=1200))
        assert peer.read()
        on.hub.clock.move(60 + 301)
        assert peer.is_closed()


def key_of_another(on: Breaker) -> None:
    first = OwnCertificate.issued(on.hub, registered(on, on.device))
    asked(on.hub, registered(on, f"{on.device}-2"), csr(first.key, f"{on.device}-2"))


def twice(on: Breaker, info: dict[str, str]) -> None:
    for _ in range(2):
        put_blob(on.hub, url(info), If_None_Match="*")


def out_of_range(on: Breaker, info: dict[str, str]) -> None:
    put_blob(on.hub, url(info))
    where = f"/{info['containerName']}/{info['blobName']}"
    request(on.hub, "GET", where, headers={"Range": "bytes=999-"})


def of_group(on: Breaker, **bounds: Any) -> None:
    enrol_group(on.hub, on.device, hubkeep=bounds)
    for name in (f"{on.device}-1", f"{on.device}-2"):
        ask_to_register(on.hub, name, derived(on.hub, on.device, name))


def odd_filter(on: Breaker) -> None:
    where = "hubkeep-events/ConsumerGroups/$Default/Partitions/2"
    with AmqpPeer.reader(on.hub) as peer:
        peer.refused(where, handle=0, receiver=True, filters=selector("amqp.annotation.x-opt-nothing > '1'"))


TOPIC: Final = "devices/{}/messages/events/"
CASES: Final[Mapping[str, Callable[[Breaker], object]]] = {
    # tokens
    "token-missing": lambda on: on.ask("GET", "/devices", token=""),
    "token-malformed": lambda on: on.ask("GET", "/devices", token="SharedAccessSignature sr=x"),
    "token-signature": lambda on: on.login(on.signed(key=b"w" * 32)),
    "token-expired": lambda on: on.login(on.signed(seconds=-600)),
    "token-wrong-hub": lambda on: on.login(
        sas.make(f"other.example.net/devices/{on.device}", on.key(), int(on.hub.clock.now()) + 60)
    ),
    "token-wrong-resource": lambda on: on.login(on.signed("devices/another")),
    "token-names-nobody": lambda on: cbs(on, sas.make(on.hub.host_name, on.key(), FAR)),
    "token-without-policy": lambda on: on.ask("GET", "/devices", token=on.signed()),
    "token-policy-signature": by_key_text,
    "token-of-policy": lambda on: ask_to_register(on.hub, on.device, by=on.hub.token()),
    "token-for-certificate-identity": lambda on: (
        register(on.hub, on.device, "A" * 64),
        on.login(on.hub.token(f"devices/{on.device}", key=b"k" * 32)),
    ),
    "basic-malformed": lambda on: enrolling(on, "Basic !!!"),
    "renewal-with-token": lambda on: request(
        on.hub, "POST", "/.well-known/est/simplereenroll", b"x", headers={"Authorization": "Basic eDp5"}
    ),
    "people-off": lambda on: cbs(on, "a.b.c"),
    "policy-gets-no-certificate": lambda on: (
        on.key(),
        enrolling(on, "Basic " + b64encode(f"{on.device}:{on.hub.token()}".encode()).decode()),
    ),
    "authorisation-expired": live_expiry,
    # policies
    "policy-unknown": lambda on: on.ask("GET", "/devices", token=sas.make(on.hub.host_name, b"k" * 32, FAR, "nobody")),
    "policy-key": lambda on: on.plain("iothubowner", b64encode(b"w" * 32).decode()),
    "policy-of-another-name": lambda on: on.plain("service@sas.root.hub", on.hub.token()),
    "policy-network": from_elsewhere,
    "policy-changed": policy_changed,
    "right-missing": lambda on: on.ask("DELETE", "/devices/x", policy="registryRead"),
    "scope-exceeded": lambda on: on.ask("GET", "/devices/other", token=on.hub.token("devices/mine")),
    "link-unauthorised": lambda on: on.link("", f"/devices/{on.device}/messages/events"),
    # identities
    "identity-unknown": lambda on: on.login(on.hub.token("devices/nobody-knows", key=b"k" * 32), device="nobody-knows"),
    "identity-deleted": lambda on: on.cut(lambda: on.ask("DELETE", f"/devices/{on.device}", headers={"If-Match": "*"})),
    "credentials-replaced": lambda on: on.cut(
        lambda: on.change(
            authentication={"type": "sas", "symmetricKey": {"primaryKey": NEW_KEY, "secondaryKey": NEW_KEY}}
        )
    ),
    "device-disabled": lambda on: (on.key(), on.change(status="disabled"), on.login(on.signed())),
    "device-blocked": lambda on: sees(on, "block"),
    "device-not-allowed": lambda on: sees(on, "allow"),
    "taken-over": taken_over,
    # certificates
    "certificate-missing": lambda on: (register(on.hub, on.device, "A" * 64), on.login()),
    "certificate-weak-signature": lambda on: on.certified(signed_with_sha1(on.device)),
    "certificate-expired": lambda on: on.certified(Certificate.made(on.device, days=OLD)),
    "certificate-not-yet-valid": lambda on: on.certified(Certificate.made(on.device, days=(10, 20))),
    "certificate-thumbprint": lambda on: on.certified(Certificate.made(on.device), shown=Certificate.made(on.device)),
    "certificate-name": certificate_name,
    "certificate-chain": lambda on: on.certified(Certificate.made(on.device), ca=True),
    "certificate-is-ca": lambda on: on.certified(Certificate.made(on.device, ca=True), ca=True),
    # protocols
    "user-name-missing": lambda on: on.login(None, user=None),
    "user-name-malformed": lambda on: on.login("x", user="nonsense"),
    "user-name-of-another": lambda on: on.login("x", user=f"{on.hub.host_name}/another/?api-version=2021-04-12"),
    "will-refused": lambda on: on.login(on.signed(), will=(TOPIC.format("another"), b"", 1, False)),
    "topic-of-another": lambda on: on.connected(publish(TOPIC.format("another"))),
    "filter-of-another": lambda on: on.connected(subscribe([("devices/another/messages/devicebound/#", 1)])),
    "subscriptions-too-many": lambda on: on.connected(
        subscribe([(f"$iothub/methods/POST/m{n}/#", 0) for n in range(51)])
    ),
    "sasl-mechanism": unknown_mechanism,
    "events-read-only": lambda on: on.link(events_token(on.hub), "hubkeep-events"),
    "owner-level": owner_level,
    "receivers-too-many": too_many_receivers,
    "registering-only": lambda on: (
        enrol(on.hub, on.device),
        on.registering("/messages/events"),
    ),
    "url-signature": lambda on: upload(on, lambda where: where.replace("a.bin", "b.bin")),
    "url-over": over_upload,
    "url-right": lambda on: on.ask("DELETE", url(begin(on.hub, on.device)), token=""),
    # provisioning
    "id-scope": lambda on: (enrol(on.hub, on.device), ask_to_register(on.hub, on.device, b"p" * 32, scope="0ne000")),
    "enrolment-unproved": lambda on: (enrol(on.hub, on.device), ask_to_register(on.hub, on.device, b"w" * 32)),
    "registration-unproved": lambda on: on.link("", f"{on.hub.id_scope}/registrations/{on.device}"),
    "registration-of-another": lambda on: (
        enrol(on.hub, on.device),
        on.registering(f"{on.hub.id_scope}/registrations/another"),
    ),
    "enrolment-not-admitted": lambda on: of_group(on, allowedRegistrationIds=["press-*"]),
    "enrolment-over": lambda on: of_group(on, expiresAtUtc="2020-01-01T00:00:00Z"),
    "enrolment-full": lambda on: of_group(on, maxRegistrations=1),
    "enrolment-not-found": lambda on: service(on.hub, "GET", "/enrollments/nobody"),
    "registration-not-found": lambda on: service(on.hub, "GET", "/registrations/nobody"),
    "enrolment-exists": lambda on: (
        enrol(on.hub, on.device),
        service(on.hub, "PUT", f"/enrollments/{on.device}", {"registrationId": on.device, "attestation": symmetric()}),
    ),
    "identity-of-another": lambda on: (
        on.key(),
        enrol(on.hub, on.device),
        ask_to_register(on.hub, on.device, b"p" * 32),
    ),
    # of those whose class says it all, what shares its number with others
    "bad-request": lambda on: on.ask("GET", "/devices?top=0"),
    "query-invalid": lambda on: on.ask("POST", "/devices/query", {"query": "nothing"}),
    "not-found": lambda on: on.ask("GET", "/nothing"),
    "bulk-refused": lambda on: on.ask("POST", "/devices", [{"id": "twice", "importMode": "create"}] * 2),
    "uri-too-long": lambda on: on.ask("GET", f"/devices?a={'x' * 9000}"),
    "checksum-mismatch": lambda on: put_blob(
        on.hub, url(begin(on.hub, on.device)), Content_MD5=b64encode(b"0" * 16).decode()
    ),
    "invalid-block-list": lambda on: put_list(on.hub, begin(on.hub, on.device), [1]),
    "blob-not-found": lambda on: on.ask("GET", f"/{begin(on.hub, on.device)['containerName']}/nothing"),
    "invalid-filter": odd_filter,
    "quota-exceeded": lambda on: [request(on.hub, "PUT", f"/api/events/groups/g{number}") for number in range(21)],
    "request-refused": lambda on: asked(on.hub, registered(on, on.device), "nonsense"),
    "key-in-use": key_of_another,
    "egress-refused": lambda on: on.ask(
        "POST", "/jobs/create", {"type": "export", "outputBlobContainerUri": "https://169.254.169.254/c?sig=x"}
    ),
    "not-implemented-here": lambda on: request(on.hub, "POST", "/.well-known/est/serverkeygen", b"x", token=""),
    "blob-exists": lambda on: twice(on, begin(on.hub, on.device)),
    "range-not-satisfiable": lambda on: out_of_range(on, begin(on.hub, on.device)),
    # what moves the clock comes last
    "device-expired": expired_device,
    "url-expired": expired_url,
}


def cbs(on: Breaker, token: str) -> None:
    with AmqpPeer(on.hub).opened() as peer:
        peer.node()
        assert peer.put_token(token).status == 401


def enrolling(on: Breaker, header: str) -> None:
    request(on.hub, "POST", "/.well-known/est/simpleenroll", b"x", headers={"Authorization": header})


@pytest.fixture(scope="module")
def breaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Breaker]:
    with HubInThread(provisioning={"answer_at_once": True}) as hub:
        yield Breaker(hub, tmp_path_factory.mktemp("explanations"))


def test_the_command_shows_cause_and_cure(breaker: Breaker) -> None:
    breaker.device = "shown"
    breaker.login(breaker.signed(key=b"w" * 32))
    place = ["--connection-string", breaker.hub.connection_string]
    with breaker.hub.trusted():
        run = CliRunner().invoke(app, ["explain", "shown", "--json", *place])
    assert run.exit_code == 0, run.output
    (refusal,) = json.loads(run.stdout)
    assert (refusal["cause"], refusal["identity"]) == ("token-signature", "shown")
    assert refusal["remedy"] == "compare the device's key with the registry's"
    with breaker.hub.trusted():
        text = CliRunner().invoke(app, ["explain", refusal["tracking_id"], *place]).stdout
    assert "the signature matches neither key" in text
    assert "compare the device's key" in text
    (entry,) = json.loads(CliRunner().invoke(app, ["explain", "token-expired", "--json"]).stdout)
    assert entry == {
        "cause": "token-expired",
        "means": CAUSES["token-expired"].means,
        "mend it": CAUSES["token-expired"].cure,
    }


@pytest.mark.parametrize("cause", CASES)
def test_a_refusal_tells_the_operator_its_cause_and_its_cure(breaker: Breaker, cause: str) -> None:
    breaker.device = f"of-{cause}"
    CASES[cause](breaker)
    refusals: list[Any] = []

    def is_told() -> bool:
        refusals[:] = request(breaker.hub, "GET", "/api/refusals?most=12").body
        return cause in [each["cause"] for each in refusals]

    assert eventually(is_told, 10), refusals
    refusal = next(each for each in refusals if each["cause"] == cause)
    assert len(refusal["reason"]) > 8
    assert len(refusal["remedy"]) > 8
    assert refusal["tracking_id"]


# -- the table is whole ----------------------------------------------------------------------------------------------


@functools.cache
def named_in_source() -> Sequence[tuple[str, str, frozenset[str] | None]]:
    """Every construction of a refusal: where, its class, and the literal names that its ``cause`` may have."""
    found: list[tuple[str, str, frozenset[str] | None]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if "cause=" not in text and not any(f"{kind}(" in text for kind in NAMED):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = [each.value for each in node.keywords if each.arg == "cause"]
                values = (each.value for value in given for each in ast.walk(value) if isinstance(each, ast.Constant))
                names = frozenset(str(each) for each in values if isinstance(each, str))
                found.append((f"{path.name}:{node.lineno}", node.func.id, names if given else None))
    return found


def test_who_refuses_names_a_cause_of_the_table() -> None:
    without = [where for where, kind, names in named_in_source() if kind in NAMED and names is None]
    assert not without, "name the cause: hubkeep/causes.py tells how"
    named = {name for _, _, names in named_in_source() for name in names or ()}
    assert named - set(CAUSES) == set()


def test_no_cause_of_the_table_is_unused() -> None:
    text = "".join(path.read_text() for path in SOURCE.rglob("*.py") if path.name != "causes.py")
    classes = {kind.own_cause for kind in errors.ON_WIRE if kind.__name__ not in NAMED} | {"hub-error"}
    assert set(CLASSES) == classes
    assert [name for name in CAUSES if name not in CLASSES and f'"{name}"' not in text] == []


def test_every_cause_has_a_test() -> None:
    marked = re.compile(r"mark\.explains\(([^)]*)\)")
    elsewhere = {
        name
        for path in TESTS.rglob("test_*.py")
        for found in marked.findall(path.read_text())
        for name in re.findall(r'"([a-z0-9-]+)"', found)
    }
    assert elsewhere - set(CAUSES) == {"name"}, "a mark names what is no cause"
    kinds: dict[str, list[str]] = {}
    for kind, row in errors.ON_WIRE.items():
        kinds.setdefault(row.name, []).append(kind.own_cause)
    of_table = {kinds[case.name][0] for case in test_error_table.CASES if len(kinds[case.name]) == 1}
    without = set(CAUSES) - set(CASES) - elsewhere - of_table
    assert without - NOT_YET == set(), "break it, and read why"
    assert NOT_YET - without == set(), "these have a test now"


def test_cures_name_commands_that_exist() -> None:
    known = {*EXAMPLES, *(each.partition(" ")[0] for each in EXAMPLES)}
    for name, cause in CAUSES.items():
        assert cause.means.endswith("."), name
        for noun, verb in re.findall(r"hubkeep ([a-z-]+)(?: ([a-z-]+))?", cause.cure):
            assert f"{noun} {verb}".strip() in known or noun in known, cause.cure
            if noun in known and noun not in EXAMPLES and verb:
                assert any(each.startswith(f"{noun} {verb}") for each in EXAMPLES), cause.cure
