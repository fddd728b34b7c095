"""Every kind of credential, and what the specification lets it do (permissions.toml)."""

import base64
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from conversations.amqp_peer import device_key, events_token
from conversations.certificates import Certificate
from conversations.https_peer import VERSION, request
from hubkeep.model import Permission, Policy
from hubkeep.testing import HubInThread
from hubkeep.wire import sas
from sign_in import KeyServer

PERMISSIONS: Final[Mapping[str, Any]] = tomllib.loads((Path(__file__).parent / "permissions.toml").read_text())
PEOPLE: Final[Mapping[str, Any]] = PERMISSIONS["people"]
DEVICE, OTHER, CERTIFIED, MODULE, TWIN = "press-07", "press-08", "gate-01", "vision", "lamp"
EVENTS: Final = "hubkeep-events"
_WORDS: Final = {
    "RR": Permission.REGISTRY_READ,
    "RW": Permission.REGISTRY_WRITE,
    "SC": Permission.SERVICE_CONNECT,
    "DC": Permission.DEVICE_CONNECT,
}
_PROVISIONING: Final = {
    "ER": Permission.ENROLMENT_READ,
    "EW": Permission.ENROLMENT_WRITE,
    "SR": Permission.REGISTRATION_READ,
    "SW": Permission.REGISTRATION_WRITE,
    "CF": Permission.PROVISIONING_CONFIG,
}
_IMPLIED: Final = {"RW": "RR", "EW": "ER", "SW": "SR"}
ALL: Final = frozenset(_WORDS)


class Credential(NamedTuple):
    """token: as it is presented; empty for none. certificate: of the client, PEM.

    is_policy: of a genuine policy, which holds ``rights``. identity: path of the one whose own credential it is.
    role: of a person's web token, empty for a person without any. devices: the only one that the role is for.
    scope: path that it is limited to. of_events: signed as Event Hubs clients do, which opens the event endpoint alone.
    """

    name: str
    token: str = ""
    certificate: Path | None = None
    rights: frozenset[str] = frozenset()
    identity: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    of_events: bool = False
    is_policy: bool = False
    role: str | None = None
    devices: str = ""

    def may(self, right: str, path: Sequence[str], identity: tuple[str, ...] = ()) -> bool:
        """path: of the address, literals in lower case. identity: whose the address is, for the right ``identity``."""
        if right == "open":
            return True
        if not self.of_events and tuple(path[: len(self.scope)]) != self.scope:
            return False
        if right == "enrolling":
            return self.certificate is not None and self.identity == ("devices", CERTIFIED) and not self.token
        if right == "identity":
            if identity[:2] == ("devices", CERTIFIED):  # no token stands in for a certificate (L-I8)
                return self.identity == identity and not self.token
            return self.identity == identity or ("DC" in self.rights and not self.of_events)
        if right == "events":
            return "SC" in self.rights
        if self.of_events:
            return False
        return any(each in self.rights or (each == "all" and self.rights >= ALL) for each in right.split(" or "))

    @property
    def is_genuine(self) -> bool:
        return self.is_policy or bool(self.identity) or bool(self.rights) or self.role is not None

    def person_may(self, need: str | None, *, device: str = "", many: bool = False) -> bool:
        """need: in the words of [people]. device: that the address names. many: it keeps to devices within reach."""
        assert self.role is not None
        if need in {"open", "signed-in"}:
            return True
        if need is None or not self.role:
            return False
        held = PEOPLE["roles"][self.role].split(" ")
        for action in need.split(" and "):
            if action not in held and (action == "hub" or not any(fnmatchcase(action, each) for each in held)):
                return False
        return not self.devices or many or device == self.devices


class Subjects:
    """Two devices with keys, one with a certificate, and modules of the first, on one hub."""

    def __init__(self, hub: HubInThread, folder: Path, provider: KeyServer) -> None:
        self.hub, self.folder, self.provider = hub, folder, provider
        hub.create_device(DEVICE)
        hub.create_device(OTHER)
        self.certificate = Certificate.made(CERTIFIED)
        body = {
            "deviceId": CERTIFIED,
            "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": self.certificate.sha256}},
        }
        assert request(hub, "PUT", f"/devices/{CERTIFIED}?{VERSION}", body).status == 200
        self.module_keys = [self._module(each) for each in (MODULE, TWIN)]

    def _module(self, module_id: str) -> bytes:
        body = {"deviceId": DEVICE, "moduleId": module_id}
        answer = request(self.hub, "PUT", f"/devices/{DEVICE}/modules/{module_id}?{VERSION}", body)
        return base64.b64decode(answer.body["authentication"]["symmetricKey"]["primaryKey"])

    def policies(self) -> Iterator[Credential]:
        """Every combination of the hub's permissions, of a policy each; those of provisioning one by one."""
        seen: set[Permission] = set()
        combined = (words for count in range(5) for words in itertools.combinations(_WORDS, count))
        for words in (*combined, *((word,) for word in _PROVISIONING), tuple(_PROVISIONING)):
            flags = Permission(0)
            for word in words:
                flags |= (_WORDS | _PROVISIONING)[word]
            if flags in seen:
                continue
            seen.add(flags)
            name = "-".join(words) or "nothing"
            policy = Policy(name=name, permissions=flags, primary_key=b"p" * 32, secondary_key=name.encode() * 16)
            self.hub.ask(self.hub.hub._policies.put(policy))
            rights = frozenset({*words, *(_IMPLIED[each] for each in words if each in _IMPLIED)})
            key = policy.secondary_key if len(words) % 2 else policy.primary_key
            token = self._token(self.hub.host_name, key, name)
            yield Credential(f"policy {name}", token, rights=rights, is_policy=True)

    def all(self) -> list[Credential]:
        return [
            *self.policies(),
            *self._narrowed(),
            *self._identities(),
            *self._certified(),
            *self.people(),
            *self._worthless(),
        ]

    def _narrowed(self) -> Iterator[Credential]:
        for path in ((DEVICE,), (OTHER,), (DEVICE, "modules", MODULE)):
            scope = ("devices", *path)
            token = self.hub.token("/".join(scope))
            yield Credential(f"owner's token for {'/'.join(scope)}", token, rights=ALL, scope=scope, is_policy=True)

    def _identities(self) -> Iterator[Credential]:
        hub, key = self.hub, device_key(self.hub, DEVICE)
        own = f"devices/{DEVICE}"
        yield Credential("device's token", hub.token(own, key=key), identity=("devices", DEVICE))
        other = hub.token(f"devices/{OTHER}", key=device_key(hub, OTHER))
        yield Credential("another device's token", other, identity=("devices", OTHER))
        for module, module_key in zip((MODULE, TWIN), self.module_keys, strict=True):
            path = ("devices", DEVICE, "modules", module)
            yield Credential(f"module {module}'s token", hub.token("/".join(path), key=module_key), identity=path)
        # the key is that device's alone, whatever the case in which the token names it (D-Q10)
        shouted = hub.token(own.upper(), key=key)
        yield Credential("device's token in another case", shouted, identity=("devices", DEVICE))
        narrow = (*own.split("/"), "messages", "events")
        yield Credential(
            "device's token for its telemetry",
            hub.token("/".join(narrow), key=key),
            identity=("devices", DEVICE),
            scope=narrow,
        )

    def people(self) -> Iterator[Credential]:
        """Each role, for the whole hub and for one device; and somebody without any."""
        yield Credential("person without a role", self._web_token(), role="")
        for role in PEOPLE["roles"]:
            yield Credential(f"person who is {role}", self._web_token(role), role=role)
            if role != "administrator":
                limited = self._web_token(f"{role} of {DEVICE}")
                yield Credential(f"person who is {role} of {DEVICE}", limited, role=role, devices=DEVICE)

    def _web_token(self, *roles: str) -> str:
        return f"Bearer {self.provider.signed(roles=list(roles), sub='-'.join(roles) or 'nobody')}"

    def _certified(self) -> Iterator[Credential]:
        file = self.certificate.file(self.folder)
        own = ("devices", CERTIFIED)
        yield Credential("certificate", certificate=file, identity=own)
        token = self.hub.token(f"devices/{DEVICE}", key=device_key(self.hub, DEVICE))
        yield Credential("certificate beside another device's token", token, file, identity=("devices", DEVICE))
        yield Credential("certificate beside the owner's token", self.hub.token(), file, rights=ALL, is_policy=True)
        impostor = Certificate.made(CERTIFIED).file(self.folder)
        yield Credential("certificate of the same name with another key", certificate=impostor)

    def _worthless(self) -> Iterator[Credential]:
        hub, host = self.hub, self.hub.host_name
        owner = sas.parse_connection_string(hub.connection_string).key
        key = device_key(hub, DEVICE)
        own = f"devices/{DEVICE}"
        wrong: dict[str, str] = {
            "none": "",
            "no token at all": "Bearer",
            "a web token": "Bearer e30.e30.e30",
            "expired web token": f"Bearer {self.provider.signed(roles=['administrator'], exp=1)}",
            "web token for somebody else": f"Bearer {self.provider.signed(roles=['administrator'], aud='x')}",
            "a password": "Basic " + base64.b64encode(b"iothubowner:" + owner).decode(),
            "expired policy token": hub.token(seconds=-400),
            "policy token for another hub": self._token("hub.example.net", owner, "iothubowner"),
            "policy token for a name that ends as the hub's": self._token(f"x{host}", owner, "iothubowner"),
            "unknown policy": self._token(host, owner, "nobody"),
            "policy of another case": self._token(host, owner, "IoTHubOwner"),
            "owner's name, the key of service": self._token(
                host, sas.parse_connection_string(hub.policy_connection_string("service")).key, "iothubowner"
            ),
            "owner's token without its name": self._token(host, owner, None),
            "owner's token, its expiry changed": hub.token().replace("&se=", "&se=9"),
            "expired device token": hub.token(own, key=key, seconds=-400),
            "device token for another hub": self._token(f"hub.example.net/{own}", key, None),
            "device token with another key": hub.token(own, key=b"k" * 32),
            "device's key, signed for another device": hub.token(f"devices/{OTHER}", key=key),
            "device's key, signed for its module": hub.token(f"{own}/modules/{MODULE}", key=key),
            "device's key, signed for the hub": self._token(host, key, None),
            "device's key, signed for a longer id": hub.token(f"{own}x", key=key),
            "device's key, signed by way of another": hub.token(f"devices/{OTHER}/../{DEVICE}", key=key),
            "device token, its text for a key": hub.token(own, key=sas.key_text(key)),
            "module's key, signed for its device": hub.token(own, key=self.module_keys[0]),
        }
        for name, token in wrong.items():
            yield Credential(name, token)

    def of_events(self) -> Iterator[Credential]:
        """Signed with the text of the key, as Event Hubs clients do."""
        for policy, rights in (("iothubowner", ALL), ("service", {"SC"}), ("device", {"DC"}), ("registryRead", {"RR"})):
            token = events_token(self.hub, policy)
            yield Credential(f"event token of {policy}", token, rights=frozenset(rights), of_events=True)

    def _token(self, resource: str, key: bytes, policy: str | None) -> str:
        return sas.make(resource, key, int(self.hub.clock.now()) + 3600, policy or "")


def told(wrong: Sequence[str], cases: int, least: int) -> None:
    """Fails with the names of the wrong cases; least: so many there were at least, or nothing was tested."""
    assert not wrong, f"{len(wrong)} of {cases}:\n" + "\n".join(wrong[:40])
    assert cases >= least


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subjects]:
    with KeyServer() as provider, HubInThread(people=provider.settings(roles=list(given_roles()))) as hub:
        yield Subjects(hub, tmp_path_factory.mktemp("credentials"), provider)


def given_roles() -> Iterator[dict[str, str]]:
    for role in PEOPLE["roles"]:
        yield {"role": role, "value": role}
        if role != "administrator":
            yield {"role": role, "value": f"{role} of {DEVICE}", "devices": f"deviceId = '{DEVICE}'"}
