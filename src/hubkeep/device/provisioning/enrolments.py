"""Enrolments: create, update, delete, page. Source: provisioning-and-pki 2.1 to 2.3, 2.6, 2.7."""

import uuid
from base64 import b64encode
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from hubkeep.errors import (
    BadRequest,
    EnrolmentExists,
    EnrolmentNotFound,
    EnrolmentQuota,
    PreconditionFailed,
)
from hubkeep.limits import ENROLMENT_HUBS, Limits
from hubkeep.model import Attestation, Authority, Enrolment, EnrolmentKey, Json, Webhook, enrolment_key
from hubkeep.ports import Clock, EnrolmentCondition, EnrolmentCount, EnrolmentStore, TwinEdit

from ..identities import check_id
from . import symmetric_key, tpm, x509
from .allocation import Allocation
from .ids import check_registration_id

_ANY: Final = "*"
_URL_LENGTH: Final = 2048
_ALLOWED: Final = 1000  # patterns of a group
_ID_SCOPE: Final = "id_scope"


class WantedEnrolment(NamedTuple):
    """What a back end wants to be there.

    kept: fields of the attestation that the request shows and does not tell, because an answer hid them: they stay.
    keeps_admission: the request says nothing of it.
    """

    enrolment: Enrolment
    kept: frozenset[str] = frozenset()
    keeps_admission: bool = True


class Enrolments:
    """Groups are in memory; the store is read once and written through. etag: a stored one, or ``*`` for any.

    initial_twin: gives a device these tags and desired properties in place of its own; raises BadRequest.
    issuers: names of the authorities that may issue what a device asks for.
    """

    def __init__(
        self,
        store: EnrolmentStore,
        authorities: Callable[[], Sequence[Authority]],
        allocation: Allocation,
        initial_twin: Callable[[str, Json], TwinEdit],
        issuers: Callable[[], Collection[str]],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._store, self._authorities, self._allocation, self._issuers = store, authorities, allocation, issuers
        self._initial_twin, self._clock, self._limits = initial_twin, clock, limits
        self._groups: dict[str, Enrolment] = {}
        self.id_scope = ""

    async def load(self, id_scope: str) -> None:
        """id_scope: of a service that has none yet; one that is stored never changes."""
        self.id_scope = await self._store.fact(_ID_SCOPE, id_scope)
        self._groups = {each.key.id: each for each in await self._store.groups()}

    # -- for those who attest ----------------------------------------------------------------------------------------

    def groups(self) -> Sequence[Enrolment]:
        return list(self._groups.values())

    def anchors(self) -> Sequence[x509.Anchor]:
        """Certificates that devices of groups chain to."""
        return x509.anchors(
            [each for each in self._groups.values() if each.attestation.type == "x509"], self._authorities()
        )

    async def find(self, key: EnrolmentKey) -> Enrolment | None:
        return self._groups.get(key.id) if key.is_group else await self._store.get(key)

    # -- for back ends -----------------------------------------------------------------------------------------------

    async def get(self, is_group: bool, enrolment_id: str) -> Enrolment:
        """Raises EnrolmentNotFound."""
        found = await self.find(enrolment_key(is_group, enrolment_id))
        if found is None:
            raise EnrolmentNotFound
        return found

    async def put(self, wanted: WantedEnrolment, etag: str = "") -> Enrolment:
        """etag: empty creates; ``*`` creates or replaces; another one replaces where it is the stored one.

        Raises BadRequest, EnrolmentExists, EnrolmentNotFound, PreconditionFailed, EnrolmentQuota.
        """
        asked = wanted.enrolment
        self._check(asked)

        def edit(stored: Enrolment | None, count: EnrolmentCount) -> Enrolment:
            if stored is None:
                if etag not in {"", _ANY}:
                    raise EnrolmentNotFound
                if (count.groups if asked.is_group else count.individuals) >= self._most(asked):
                    raise EnrolmentQuota(remedy="delete some, or raise limits.enrolments and limits.enrolment_groups")
            elif not etag:
                raise EnrolmentExists
            elif etag not in {_ANY, stored.etag}:
                raise PreconditionFailed
            return self._made(wanted, stored)

        done = await self._store.change(asked.key, edit)
        assert done is not None, "the edit makes one"
        if done.is_group:
            self._groups[done.key.id] = done
        return done

    async def disable(self, key: EnrolmentKey) -> Enrolment | None:
        """Whatever else is in it. None: there is none."""

        def edit(stored: Enrolment | None, _count: EnrolmentCount) -> Enrolment | None:
            if stored is None:
                return None
            return msgspec.structs.replace(stored, status="disabled", etag=new_etag(), updated=self._clock.now())

        done = await self._store.change(key, edit)
        if done is not None and done.is_group:
            self._groups[done.key.id] = done
        return done

    async def delete(self, is_group: bool, enrolment_id: str, etag: str = _ANY) -> None:
        """What it made at the hub stays. Raises EnrolmentNotFound, PreconditionFailed."""
        key = enrolment_key(is_group, enrolment_id)

        def edit(stored: Enrolment | None, _count: EnrolmentCount) -> None:
            if stored is None:
                raise EnrolmentNotFound
            if etag not in {_ANY, stored.etag}:
                raise PreconditionFailed

        await self._store.change(key, edit)
        if is_group:
            self._groups.pop(key.id, None)

    async def page(self, is_group: bool, condition: EnrolmentCondition, after: str, most: int) -> Sequence[Enrolment]:
        """By id in lower case, behind ``after``."""
        return await self._store.page(is_group, condition, after, most)

    # -- checks ------------------------------------------------------------------------------------------------------

    def _most(self, asked: Enrolment) -> int:
        return self._limits.enrolment_groups if asked.is_group else self._limits.enrolments

    def _check(self, asked: Enrolment) -> None:
        check_registration_id(asked.id, "A group's id" if asked.is_group else "A registration id")
        if asked.device_id:
            check_id(asked.device_id)
        linked = {each.host_name.lower() for each in self._allocation.hubs}
        if len(asked.hubs) > ENROLMENT_HUBS.value:
            raise BadRequest(f"An enrollment names at most {ENROLMENT_HUBS.value} hubs.")
        for hub in asked.hubs:
            if hub.lower() not in linked:
                raise BadRequest(f"The hub {hub[:128]!r} is not linked.")
        if asked.allocation == "static" and len(asked.hubs) != 1:
            raise BadRequest("Static allocation needs exactly one hub.")
        if asked.allocation == "custom" and not self._allocation.can_ask:
            raise BadRequest("This service does not ask webhooks for allocation.")
        if asked.webhook is not None and not _may_be_asked(asked.webhook):
            raise BadRequest("webhookUrl is an https URL of at most 2048 characters, without user and fragment.")
        if (asked.allocation == "custom") != (asked.webhook is not None):
            raise BadRequest("customAllocationDefinition belongs to custom allocation, and to that alone.")
        if asked.credential_policy and asked.credential_policy not in self._issuers():
            raise BadRequest("credentialPolicyName names no authority of the hub's own.", remedy="hubkeep cert ca list")
        if len(asked.admission.allowed) > _ALLOWED:
            raise BadRequest(f"allowedRegistrationIds has at most {_ALLOWED} entries.")
        if asked.initial_twin is not None:
            self._initial_twin(asked.device_id or asked.id, asked.initial_twin).fresh()

    def _made(self, wanted: WantedEnrolment, stored: Enrolment | None) -> Enrolment:
        enrolment, now = wanted.enrolment, self._clock.now()
        attestation = enrolment.attestation
        if stored is not None:
            if attestation.type != stored.attestation.type:
                raise BadRequest("The kind of attestation of an enrollment cannot be changed.")
            kept = {name: getattr(stored.attestation, name) for name in wanted.kept}
            attestation = msgspec.structs.replace(attestation, **kept)
        return msgspec.structs.replace(
            enrolment,
            id=stored.id if stored is not None else enrolment.id,
            attestation=self._attestation(attestation, is_group=enrolment.is_group),
            admission=stored.admission if stored is not None and wanted.keeps_admission else enrolment.admission,
            etag=new_etag(),
            created=stored.created if stored is not None else now,
            updated=now,
        )

    def _attestation(self, wanted: Attestation, *, is_group: bool) -> Attestation:
        if wanted.type == "symmetricKey":
            return symmetric_key.checked(wanted)
        if wanted.type == "x509":
            known = [each.name for each in self._authorities()]
            return x509.checked(wanted, is_group=is_group, known=known, now=self._clock.now())
        return tpm.checked(wanted, is_group=is_group)


def _may_be_asked(webhook: Webhook) -> bool:
    try:
        parts = urlsplit(webhook.url)
    except ValueError:
        return False
    is_plain = parts.username is None and parts.password is None and not parts.fragment
    is_text = webhook.url.isascii() and webhook.url.isprintable() and len(webhook.url) <= _URL_LENGTH
    return is_text and is_plain and parts.scheme == "https" and bool(parts.hostname)


def new_etag() -> str:
    """Base64 of a quoted GUID."""
    return b64encode(f'"{uuid.uuid4()}"'.encode()).decode()
