"""Who stands behind a link, settled once from its credential, and where the link comes from."""

from typing import Literal

import msgspec

from .person import Person
from .policy import Permission
from .registration import RegistrationCredential

Surface = Literal["mqtt", "amqp", "https"]


class LinkInfo(msgspec.Struct, frozen=True, gc=False):
    """Where a request or connection comes from: for refusals and the audit record."""

    surface: Surface
    peer: str = ""  # address:port of the socket
    tls: str = ""  # negotiated version
    client: str = ""  # user agent, DeviceClientType or container id: diagnostic text of the peer, never trusted
    websocket: bool = False
    certificates: tuple[bytes, ...] = ()  # DER, the leaf first, as the peer showed them: they prove its key alone
    old_suite: str = ""  # the negotiated suite, where it is one for old devices
    canary: bool = False  # it took the chain of the canary name, which ends in the incoming root alone

    def __repr__(self) -> str:
        return f"LinkInfo({self.surface!r}, {self.peer!r}, {self.tls!r}, {len(self.certificates)} certificates)"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """What a proven credential stands for.

    device_id, module_id: the identity that the credential opens; empty for a policy that opens many.
    policy: name of the shared access policy that signed, empty for an identity's own key.
    scope: path segments below the hub that the token is limited to (``("devices", "a")``); empty: the whole hub.
    expires: Unix seconds of the token's expiry, without grace, or of the certificate's end; 0 for neither.
    authority: the registered one that vouched for the certificate; empty for a thumbprint, and without one.
    marks: what the deny-list knows the certificates by that proved it.
    key: which of two keys or thumbprints matched.
    proved: the count of changes (connection/changes.py) from before its credential was looked at.
    registration: what proved a device to the provisioning service, for which it is no identity yet.
    person: whom a provider's token names; their roles are looked up anew with each operation (cloud/roles.py).
    auth_scope, auth_type: how events tell it (service-protocols 5.6): hub, device or module; sas, symkey or x509; jwt
        is of people, who send no events.
    """

    permissions: Permission
    device_id: str = ""
    module_id: str = ""
    generation_id: str = ""
    policy: str = ""
    scope: tuple[str, ...] = ()
    expires: float = 0.0
    auth_scope: Literal["hub", "device", "module"] = "hub"
    auth_type: Literal["sas", "symkey", "x509", "jwt"] = "sas"
    key: Literal["primary", "secondary", ""] = ""
    authority: str = ""
    proved: int = 0
    registration: RegistrationCredential | None = None
    marks: tuple[str, ...] = ()
    person: Person | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The identity's path below the hub."""
        module = ("modules", self.module_id) if self.module_id else ()
        return ("devices", self.device_id, *module)

    @property
    def name(self) -> str:
        """The identity, the policy or the person, as people write it."""
        if self.person is not None:
            name, subject = self.person.name, self.person.subject
            return f"person {name} ({subject})" if name != subject else f"person {subject}"
        if self.policy:
            return f"policy {self.policy}"
        if self.registration is not None:
            return self.registration.registration_id
        return f"{self.device_id}/{self.module_id}" if self.module_id else self.device_id
