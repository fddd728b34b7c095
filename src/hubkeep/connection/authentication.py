"""One path from any credential to a Principal. Start at ``Authentication``.

Every refusal of a credential is the same to the peer (L-I1), is recorded with its reason, and comes after the same
time, whether the identity exists or not.
"""

import asyncio
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from hubkeep.cloud.roles import Reach
from hubkeep.device.provisioning.tpm import TpmKeys
from hubkeep.errors import DeviceDisabled, Forbidden, HubError, Unauthorized
from hubkeep.limits import REFUSAL_AFTER, Limits
from hubkeep.model import Identity, KeySlot, LinkInfo, Permission, Policy, Principal, why_shut_out
from hubkeep.ports import Clock, IdentityStore, RecordRefusal
from hubkeep.wire import sas

from . import client_certificates, presented, web_tokens
from .admission import FailedLogins, FailedPairs
from .changes import Changes
from .device_trust import DeviceTrust
from .operations import BY_NAME, Operation, allowed_by, allows
from .people import People
from .registration_credentials import RegistrationCredentials
from .turns import Turns

_LATE: Final = 60.0  # seconds that a certificate after its end proves anything: one request long
_BY_CERTIFICATE: Final = ("selfSigned", "certificateAuthority")


class Authentication:
    """host_names: every name that tokens may be signed for. policy: looks up a shared access policy by name.

    people: proves them, and what they may.
    registrations: proves devices to the provisioning service; None where there is none. access: why a device
    (by id, and by the authority that vouched for its certificate) may not be here though its credential is good. used:
    hears of every good credential. accepted: the same, and the token that was shown, if one was. used_right: hears by
    which right (the number of a Permission) a policy's principal was let through.
    """

    def __init__(
        self,
        identities: IdentityStore,
        policy: Callable[[str], Policy | None],
        trust: DeviceTrust,
        registrations: RegistrationCredentials | None = None,
        *,
        people: People,
        host_names: Iterable[str],
        events_name: str,
        clock: Clock,
        limits: Limits,
        changes: Changes,
        access: Callable[[str, str], HubError | None],
        used: Callable[[Principal, LinkInfo], None],
        accepted: Callable[[Principal, str | None, LinkInfo], None],
        used_right: Callable[[Principal, int, LinkInfo], None],
        failed: FailedLogins,
        failed_pairs: FailedPairs,
        refuse: RecordRefusal,
        turns: Turns | None = None,
    ) -> None:
        """turns: in which certificates are judged."""
        self._turns = turns or Turns()
        self._identities, self._policy, self._clock, self._limits, self._refuse = (
            identities,
            policy,
            clock,
            limits,
            refuse,
        )
        self._trust, self._registrations = trust, registrations
        self._people = people
        self._hosts = frozenset(name.lower() for name in host_names)
        self._events_name = events_name
        self.changes, self._access, self.used = changes, access, used
        self._accepted, self._used_right = accepted, used_right
        self.failed, self._failed_pairs = failed, failed_pairs

    # -- credentials -------------------------------------------------------------------------------------------------

    async def device(
        self, device_id: str, module_id: str, token: str | None, link: LinkInfo, *, operation: str
    ) -> Principal:
        """A device or module that names itself and shows a token (MQTT password, HTTPS header, CBS), or shows none:
        then the certificate of its handshake must prove it.

        Raises Unauthorized, DeviceDisabled (a good credential of a disabled identity); both are recorded.
        """
        name, began = f"{device_id}/{module_id}" if module_id else device_id, _now()
        try:
            return self._noted(await self._device(device_id, module_id, token, link), link, token)
        except HubError as error:
            raise await self._refused(error, began, link, name, operation, token) from None

    async def enrolling(self, header: str | None, link: LinkInfo, *, operation: str, is_renewal: bool) -> Principal:
        """A device that asks for a certificate of its own, named by the one that it shows, or by Basic with its own
        token as password. is_renewal: the certificate alone counts, also a little after its end.

        Raises Unauthorized, DeviceDisabled; recorded.
        """
        name, token, began = "", None, _now()
        try:
            if header is not None:
                if is_renewal:  # one good proof excuses no other
                    raise Unauthorized(
                        cause="renewal-with-token",
                        reason="a certificate is renewed with itself, and with no token beside it",
                    )
                name, token = presented.basic(header)
            elif link.certificates:
                leaf = client_certificates.checked_leaf(link.certificates, self._clock.now(), self._grace(is_renewal))
                name = client_certificates.common_name(leaf) or ""
            device_id, _, module_id = name.partition("/")
            principal = await self._device(
                device_id, module_id, token, link, grace=self._grace(is_renewal), is_own=True
            )
        except HubError as error:
            raise await self._refused(error, began, link, name, operation, token) from None
        self._accepted(principal, None, link)
        return principal

    async def registration(
        self, id_scope: str, registration_id: str, token: str | None, link: LinkInfo, *, operation: str
    ) -> Principal:
        """A device that names itself to the provisioning service and shows a token, or shows none: then the certificate
        of its handshake must prove it. Raises Unauthorized, recorded.
        """
        name, began, proved = f"registration {registration_id.lower()}", _now(), self.changes.count
        try:
            if self._registrations is None:
                raise Unauthorized(cause="provisioning-off", reason="there is no provisioning service here")
            parsed = presented.parsed(token) if token else None
            principal = await self._registrations.prove(id_scope, registration_id, parsed, link.certificates)
            self._check_pair(link, name)
            if parsed is not None:
                self._check_expiry(parsed)
        except HubError as error:
            raise await self._refused(error, began, link, registration_id, operation, token, pair=name) from None
        self._accepted(principal, None, link)  # a token for the provisioning service is no login to the hub
        return msgspec.structs.replace(principal, proved=proved)

    async def tpm_challenge(
        self, id_scope: str, registration_id: str, keys: TpmKeys, link: LinkInfo, *, operation: str
    ) -> bytes:
        """What a device's TPM can make a token with. A TPM that is not enrolled gets the same after the same time, but
        it proves nothing; that is recorded. Raises BadRequest, Throttled, Unauthorized (there is no such service).
        """
        name, began = f"registration {registration_id.lower()}", _now()
        if self._registrations is None:
            error = Unauthorized(cause="provisioning-off", reason="there is no provisioning service here")
            raise await self._refused(error, began, link, registration_id, operation, None, pair=name)
        is_blocked = self._failed_pairs.blocked(link.peer.rpartition(":")[0], name)
        found = await self._registrations.challenge(id_scope, registration_id, keys, is_blocked=is_blocked)
        if found.refusal is not None:
            await self._refused(found.refusal, began, link, registration_id, operation, None, pair=name)
        else:
            await asyncio.sleep(began + REFUSAL_AFTER.value / 1000 - _now())
        return found.blob

    async def service(self, token: str | None, link: LinkInfo, *, operation: str) -> Principal:
        """A back end that shows a policy's token, signed with the decoded key, or a person's web token.

        Raises Unauthorized, recorded.
        """
        if (bearer := web_tokens.in_header(token)) is not None:
            return await self.person(bearer, link, operation=operation)
        name, began = "", _now()
        try:
            parsed = presented.parsed(token)
            name = f"policy {parsed.skn}"
            return self._noted(self._by_policy(parsed, link, text_key=False), link, token)
        except HubError as error:
            raise await self._refused(error, began, link, name, operation, token) from None

    async def cbs(self, token: str, link: LinkInfo) -> Principal:
        """A token put on ``$cbs``: it tells itself whose it is, never the request's name or type."""
        if (bearer := web_tokens.in_put_token(token)) is not None:
            return await self.person(bearer, link, operation="cbs")
        name, began = "", _now()
        try:
            parsed = presented.parsed(token)
            if parsed.skn:
                name = f"policy {parsed.skn}"
                return self._noted(self._by_policy(parsed, link, text_key=True), link, token)
            device_id, module_id = await self._registered(presented.identities_in(parsed))
            name = f"{device_id}/{module_id}" if module_id else device_id
            return self._noted(await self._device(device_id, module_id, token, link), link, token)
        except HubError as error:
            raise await self._refused(error, began, link, name, "cbs", token) from None

    async def _registered(self, names: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """The first of them that is registered; else the first."""
        for each in names[1:] and names:
            if await self._identities.get(*each) is not None:
                return each
        return names[0]

    async def person(self, token: str, link: LinkInfo, *, operation: str) -> Principal:
        """Whom the provider's token names: a person, or a program with an account of its own.

        Raises Unauthorized, recorded.
        """
        name, began, proved = "", _now(), self.changes.count
        try:
            claims = await self._people.signed(token)
            name = self._people.name_in(claims)
            principal = self._people.principal(claims, proved)
        except HubError as error:
            raise await self._refused(error, began, link, name, operation, f"Bearer {token}") from None
        self._accepted(principal, token, link)
        return principal

    async def signed_in(self, token: str, client: str, nonce: str, link: LinkInfo) -> str:
        """Whom the identity token of a sign-in with a browser names. Raises Unauthorized, recorded."""
        began = _now()
        try:
            claims = await self._people.signed(token)
            return self._people.check_identity(claims, client, nonce)
        except HubError as error:
            raise await self._refused(error, began, link, "", "people/callback", f"Bearer {token}") from None

    async def plain(self, user: str, password: str, link: LinkInfo) -> Principal:
        """SASL PLAIN (service-protocols 1.7, device-protocols 4.2). Any hub label is taken: the token's sr decides."""
        began = _now()
        name, _, label = sas.percent_decoded(user).rpartition("@")
        try:
            if label.lower().startswith("sas.root."):
                parsed = presented.parsed(password)
                if parsed.skn != name:
                    raise Unauthorized(
                        cause="policy-of-another-name",
                        reason=f"the user name says policy {name!r}, the token {parsed.skn!r}",
                    )
                return self._noted(self._by_policy(parsed, link, text_key=True), link, password)
            if not name:
                return self._noted(self._by_key_text(user, password, link), link, None)
            device_id, _, module_id = name.partition("/")
            principal = await self._device(device_id, module_id.removeprefix("modules/"), password, link)
            return self._noted(principal, link, password)
        except HubError as error:
            raise await self._refused(error, began, link, name or user, "sasl", password) from None

    def _noted(self, principal: Principal, link: LinkInfo, token: str | None) -> Principal:
        """token: None where none was shown; a bare key is no token."""
        self.used(principal, link)
        self._accepted(principal, token, link)
        return principal

    async def acting_as(self, policy: Principal, device_id: str, module_id: str) -> Principal:
        """A policy's principal as the device it acts for (events tell both). Raises Unauthorized, DeviceDisabled."""
        if (changed := self.changes.since(policy)) is not None:
            raise changed
        proved = self.changes.count
        identity = await self._identities.get(device_id, module_id)
        if identity is None:
            raise Unauthorized(
                cause="identity-unknown",
                reason="the identity is not registered",
                remedy=f"hubkeep device create {device_id}",
            )
        if identity.authentication in _BY_CERTIFICATE:
            raise _wants_certificate(identity)
        await self._check_enabled(identity)
        return Principal(
            permissions=Permission.DEVICE_CONNECT,
            device_id=device_id,
            module_id=module_id,
            generation_id=identity.generation_id,
            policy=policy.policy,
            scope=("devices", device_id, *(("modules", module_id) if module_id else ())),
            expires=policy.expires,
            auth_scope="hub",
            key=policy.key,
            proved=proved,
        )

    async def _refused(
        self,
        error: HubError,
        began: float,
        link: LinkInfo,
        name: str,
        operation: str,
        token: str | None,
        *,
        pair: str = "",
    ) -> HubError:
        """Record, and wait until the same time after ``began`` as every other refusal. pair: what failures are counted
        for, if it is another than ``name``.
        """
        shown = {} if token else dict(client_certificates.described(link.certificates))
        if token and (web_token := web_tokens.in_header(token)) is not None:
            shown = web_tokens.told_of(web_token)
        elif token:
            try:
                parsed = sas.parse(token)
                shown = {"sr": parsed.sr, "se": parsed.se, "skn": parsed.skn}
            except sas.TokenRefused:
                shown = {"token": f"{len(token)} characters that are no shared access signature"}
        if not isinstance(error, DeviceDisabled):  # its credential was good: nobody is guessing
            address = link.peer.rpartition(":")[0]
            self.failed.note(address)
            if name:
                self._failed_pairs.note(address, pair or name)
        self._refuse(error, link, identity=name, operation=operation, **shown)
        await asyncio.sleep(began + REFUSAL_AFTER.value / 1000 - _now())
        return error

    def _check_pair(self, link: LinkInfo, name: str) -> None:
        """Raises Unauthorized."""
        if self._failed_pairs.blocked(link.peer.rpartition(":")[0], name):
            presented.waste(2)
            raise Unauthorized(
                cause="pair-locked-out",
                reason="too many failed logins of this identity from this address",
                remedy="wait: see those before",
            )

    # -- from a token to who signed it -------------------------------------------------------------------------------

    def _grace(self, is_renewal: bool) -> float:
        return float(self._limits.certificate_grace) if is_renewal else 0.0

    async def _device(
        self,
        device_id: str,
        module_id: str,
        token: str | None,
        link: LinkInfo,
        *,
        grace: float = 0.0,
        is_own: bool = False,
    ) -> Principal:
        """grace: see DeviceTrust.prove. is_own: no policy may act for the identity."""
        if not token and link.certificates:
            await self._turns.next()
        proved = self.changes.count
        identity = await self._identities.get(device_id, module_id)
        path = ("devices", device_id, "modules", module_id) if module_id else ("devices", device_id)
        name = f"{device_id}/{module_id}" if module_id else device_id
        self._check_pair(link, name)
        if not token:  # none, or one of no bytes (L-I8)
            return await self._by_certificate(identity, path, link.certificates, proved, grace)
        parsed = presented.parsed(token)
        if parsed.skn and is_own:
            raise Unauthorized(
                cause="policy-gets-no-certificate",
                reason="a policy's token gets no certificate for a device",
                remedy="hubkeep cert issue",
            )
        if parsed.skn:
            principal = self._by_policy(parsed, link, text_key=False)
            if not principal.permissions & Permission.DEVICE_CONNECT:
                raise Unauthorized(
                    cause="right-missing",
                    reason=f"policy {parsed.skn!r} does not hold DeviceConnect",
                    remedy="sign with the device's own key, or a policy with DeviceConnect",
                )
            if not sas.covers(principal.scope, path):
                raise Unauthorized(
                    cause="token-wrong-resource", reason=f"the policy's token is limited to {'/'.join(principal.scope)}"
                )
            return await self.acting_as(principal, device_id, module_id)
        key = self._matching_key(parsed, identity)
        if identity is None:
            raise Unauthorized(
                cause="identity-unknown",
                reason="the identity is not registered",
                remedy=f"hubkeep device create {device_id}",
            )
        if identity.authentication != "sas":
            raise _wants_certificate(identity)
        if key is None:
            raise Unauthorized(
                cause="token-signature",
                reason=presented.why_unsigned(parsed, identity, path),
                remedy="compare the device's key with the registry's",
            )
        scope = self._own_scope(parsed, path)
        self._check_expiry(parsed)
        await self._check_enabled(identity)
        return Principal(
            permissions=Permission.DEVICE_CONNECT,
            device_id=identity.device_id,
            module_id=identity.module_id,
            generation_id=identity.generation_id,
            scope=scope,
            expires=parsed.expiry,
            auth_scope="module" if module_id else "device",
            key=key,
            proved=proved,
        )

    async def _by_certificate(
        self,
        identity: Identity | None,
        path: tuple[str, ...],
        certificates: Sequence[bytes],
        proved: int,
        grace: float = 0.0,
    ) -> Principal:
        presented.waste(2)
        if identity is None:
            raise Unauthorized(
                cause="identity-unknown",
                reason="the identity is not registered",
                remedy=f"hubkeep device create {path[1]}",
            )
        proof = None
        if identity.authentication in {"sas", "selfSigned"} and certificates:
            proof = await self._trust.prove_issued(identity, tuple(certificates))
        if identity.authentication not in _BY_CERTIFICATE and proof is None:
            ignored = "; a certificate does not stand in for it" if certificates else ""
            raise Unauthorized(
                cause="token-missing",
                reason=f"no token was presented, and the identity authenticates by {identity.authentication}{ignored}",
                remedy="send a shared access signature as password",
            )
        if proof is not None:
            await self._check_enabled(identity, proof.authority)
            await self._trust.adopt(identity)
            proved = self.changes.count  # that one was our own
        else:
            proof = await self._trust.prove(identity, tuple(certificates), grace=grace)
            await self._check_enabled(identity, proof.authority)
        return Principal(
            permissions=Permission.DEVICE_CONNECT,
            device_id=identity.device_id,
            module_id=identity.module_id,
            generation_id=identity.generation_id,
            scope=path,
            expires=self._clock.now() + _LATE if proof.is_late else proof.expires,
            auth_scope="module" if identity.module_id else "device",
            auth_type="x509",
            key=proof.slot,
            authority=proof.authority,
            proved=proved,
            marks=proof.marks,
        )

    @staticmethod
    def _matching_key(token: sas.SasToken, identity: Identity | None) -> KeySlot | None:
        primary = identity.primary_key if identity is not None else None
        secondary = identity.secondary_key if identity is not None else None
        # both are always computed, so that time tells nothing
        by_primary = sas.is_signed_by(token, primary or presented.DECOY) and primary is not None
        by_secondary = sas.is_signed_by(token, secondary or presented.DECOY) and secondary is not None
        return "primary" if by_primary else "secondary" if by_secondary else None

    def _by_policy(self, token: sas.SasToken, link: LinkInfo, *, text_key: bool) -> Principal:
        """text_key: also accept the key's base64 text as HMAC key; such a token opens the event endpoint alone."""
        policy = self._policy(token.skn)
        keys: tuple[tuple[KeySlot, bytes], ...] = (
            ("primary", policy.primary_key if policy else presented.DECOY),
            ("secondary", policy.secondary_key if policy else presented.DECOY),
        )
        key = by_text = None
        for name, value in keys:
            if sas.is_signed_by(token, value):
                key = name
            if text_key and sas.is_signed_by(token, sas.key_text(value)):
                by_text = name
        if policy is None:
            if not token.skn:
                raise Unauthorized(
                    cause="token-without-policy",
                    reason="the token names no policy (skn)",
                    remedy="sign with a shared access policy",
                )
            raise Unauthorized(
                cause="policy-unknown",
                reason=f"there is no policy {token.skn!r}",
                remedy="hubkeep connection-string --policy NAME",
            )
        if key is None and by_text is None:
            other = next((name for name, value in keys if sas.is_signed_by(token, sas.key_text(value))), None)
            raise Unauthorized(
                cause="token-policy-signature",
                reason="the key's text was used as it stands; this surface wants the decoded key"
                if other
                else f"the signature matches neither key of policy {token.skn!r}",
                remedy="hubkeep connection-string --policy NAME prints the right key",
            )
        _check_address(policy, link)
        self._check_expiry(token)
        segments = self._own_resource(token)
        permissions, scope = policy.permissions, segments
        if key is None:
            permissions &= Permission.SERVICE_CONNECT
            scope = segments or (self._events_name,)
        return Principal(
            permissions=permissions,
            policy=policy.name,
            scope=scope,
            expires=token.expiry,
            key=key or by_text or "",
            proved=self.changes.count,
        )

    def _by_key_text(self, user: str, password: str, link: LinkInfo) -> Principal:
        """A policy's name and the bare text of its key, as a C event reader sends them: the event endpoint alone."""
        policy = self._policy(user)
        matched = [
            hmac.compare_digest(sas.key_text(key), password.encode())
            for key in ((policy.primary_key, policy.secondary_key) if policy else (presented.DECOY, presented.DECOY))
        ]
        if policy is None or not any(matched):
            raise Unauthorized(
                cause="policy-key", reason=f"no policy {user!r} with this key, and no name of the form id@sas.hub"
            )
        _check_address(policy, link)
        return Principal(
            permissions=policy.permissions & Permission.SERVICE_CONNECT,
            policy=policy.name,
            scope=(self._events_name,),
            key="primary" if matched[0] else "secondary",
            proved=self.changes.count,
        )

    def _own_resource(self, token: sas.SasToken) -> tuple[str, ...]:
        for resource in sas.resources(token.sr):
            if resource.host in self._hosts:
                return resource.segments
        raise Unauthorized(
            cause="token-wrong-hub",
            reason=f"the token was signed for {sas.percent_decoded(token.sr)!r}, which is not a name of this hub",
            remedy=f"sign for one of: {', '.join(sorted(self._hosts))}",
        )

    def _own_scope(self, token: sas.SasToken, path: tuple[str, ...]) -> tuple[str, ...]:
        """What an identity's own token opens: the identity, or the part of it that the token was signed for."""
        for resource in sas.resources(token.sr):
            segments = resource.segments
            if resource.host in self._hosts and len(segments) >= len(path) and presented.is_for(segments, path):
                below = segments[len(path) :]
                # older samples sign for a parameter below the identity and mean the identity (2.5)
                return path if not below or "=" in below[0] else (*path, *below)
        self._own_resource(token)
        wanted, got = "/".join(path), "/".join(sas.resources(token.sr)[0].segments)
        raise Unauthorized(
            cause="token-wrong-resource", reason=f"the token was signed for {got!r}; this needs {wanted!r}"
        )

    def _check_expiry(self, token: sas.SasToken) -> None:
        late = self._clock.now() - token.expiry
        if late > self._limits.token_grace:
            raise Unauthorized(
                cause="token-expired",
                reason=f"the token expired {presented.span(late)} ago (se={token.se})",
                remedy="make a new token; check the clock of the device",
            )

    async def _check_enabled(self, identity: Identity, authority: str = "") -> None:
        """Raises DeviceDisabled, DeviceBlocked."""
        if identity.module_id:  # a module is as enabled as its device
            device = await self._identities.get(identity.device_id)
            if device is None:
                raise Unauthorized(cause="identity-unknown", reason="the module's device is not registered")
            identity = device
        if identity.status != "enabled":
            raise DeviceDisabled(
                cause="device-disabled",
                reason="the identity is disabled" + (f": {identity.status_reason}" if identity.status_reason else ""),
                remedy=f"hubkeep device unblock {identity.device_id}",
            )
        if (blocked := self._access(identity.device_id, authority)) is not None:
            raise blocked

    # -- what a principal may do -------------------------------------------------------------------------------------

    def authorize(self, principal: Principal, operation: str, segments: tuple[str, ...], link: LinkInfo) -> None:
        """Permission, token scope and expiry for one operation on the path ``segments``.

        Raises Forbidden or Unauthorized, recorded.
        """
        row = BY_NAME[operation]
        error: HubError | None = None
        if self.expired(principal):
            error = Unauthorized(
                cause="authorisation-expired", reason="the authorisation has expired", remedy="renew the token"
            )
        elif principal.person is not None:
            error = None if self.may(principal, row, segments) else self._people.no_role(principal, operation)
        elif not allows(principal.permissions, row):
            needed = " or ".join(str(each.name) for each in row.any_of)
            error = Forbidden(
                cause="right-missing", reason=f"{operation} needs {needed}; {principal.name} does not hold it"
            )
        elif not sas.covers(principal.scope, segments):
            error = Forbidden(cause="scope-exceeded", reason=f"the token is limited to {'/'.join(principal.scope)!r}")
        if error is not None:
            self._refuse(error, link, identity=principal.name, operation=operation, path="/".join(segments))
            raise error
        if principal.policy:
            self._used_right(principal, allowed_by(principal.permissions, row), link)

    async def reach(
        self, principal: Principal, operation: str, segments: tuple[str, ...], device_id: str, link: LinkInfo
    ) -> Reach | None:
        """``authorize``, for what may be for some devices only. None: everywhere. Else the operation keeps to what it
        gets. device_id: the one that the address names; empty for none.

        Raises Forbidden or Unauthorized, recorded.
        """
        if principal.person is None or self.expired(principal):
            self.authorize(principal, operation, segments, link)
            return None
        try:
            return await self._people.reach(principal, operation, device_id)
        except Forbidden as error:
            self._refuse(error, link, identity=principal.name, operation=operation, path="/".join(segments))
            raise

    async def check_device(self, principal: Principal, operation: str, device_id: str) -> None:
        """Of a link on which each message names its device. Raises Forbidden, which is the caller's to record."""
        if principal.person is not None:
            await self._people.check_device(principal, operation, device_id)

    def may(self, principal: Principal, row: Operation, path: tuple[str, ...]) -> bool:
        """Permission and scope, or a role that is for the whole hub; where each message is asked for, for any of it."""
        if principal.person is not None:
            return self._people.may(principal, row.name)
        return allows(principal.permissions, row) and sas.covers(principal.scope, path)

    def expired(self, principal: Principal) -> bool:
        """Whether the token's expiry plus the grace (device-protocols 2.6), or the certificate's end, has passed."""
        return bool(principal.expires) and self._clock.now() > self.lapses(principal)

    def is_spent(self, principal: Principal, operation: str) -> bool:
        """Whether it has expired, what its credential stood on is other than when it was proved, or the person who
        began ``operation`` has no role for it any more."""
        if self.expired(principal) or self.changes.since(principal) is not None:
            return True
        return principal.person is not None and not self.may(principal, BY_NAME[operation], ())

    def lapses(self, principal: Principal) -> float:
        """Unix seconds when its links must go: a token has a grace, a certificate has none (P-41). 0: never."""
        grace = 0 if principal.auth_type == "x509" else self._limits.token_grace
        return principal.expires + grace if principal.expires else 0.0


def _check_address(policy: Policy, link: LinkInfo) -> None:
    """Raises Unauthorized: the policy's networks are closed to the peer."""
    address = link.peer.rpartition(":")[0]
    if why := why_shut_out(policy.networks, address):
        raise Unauthorized(
            cause="policy-network",
            reason=f"policy {policy.name!r} may not be used from {address}: {why}",
            remedy=f"hubkeep policy networks {policy.name}",
        )


def _wants_certificate(identity: Identity) -> Unauthorized:
    """A token beside a good certificate excuses nothing either (L-I8)."""
    return Unauthorized(
        cause="token-for-certificate-identity",
        reason=f"the identity authenticates by {identity.authentication}: tokens for it are refused",
        remedy="connect with its certificate and without a token, or give it symmetric keys",
    )


def _now() -> float:
    """The loop's time: a clock that tests move does not make a refusal late."""
    return asyncio.get_running_loop().time()
