"""The audit: who did what to what, from where, with which credential. Start at ``AuditTrail.record`` and ``note``.

Source: provisioning-and-pki 5.6, 6; limits-and-faults L-I5.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

from hubkeep.errors import HubError
from hubkeep.limits import AUDIT_WAITING, Limits
from hubkeep.model import AUDIT_CHAINS, AuditChain, AuditEntry, AuditHead, ChainedEntry, LinkInfo, Principal, Refusal
from hubkeep.ports import AuditQuery, AuditStore, Clock

log = logging.getLogger("hubkeep.audit")

_AT_ONCE: Final = 250  # entries of one turn of the loop: about 2 ms
_LINKS: Final = 20_000  # connections whose log-in is remembered


class AuditTrail:
    """``record`` waits until the disk has the entry; ``note`` costs the caller nothing, and reaches it within a second.

    noted: since the start. lost: entries that could not wait any longer, by chain; the chain tells of them.
    """

    def __init__(self, store: AuditStore, clock: Clock, limits: Limits) -> None:
        self._store, self._clock = store, clock
        self._keep: Mapping[AuditChain, int] = {
            "changes": limits.audit_changes,
            "commands": limits.audit_commands,
            "disclosures": limits.audit_disclosures,
            "logins": limits.audit_logins,
            "refusals": limits.audit_refusals,
        }
        self._waiting: dict[AuditChain, deque[AuditEntry]] = {chain: deque() for chain in AUDIT_CHAINS}
        self._writing: dict[AuditChain, asyncio.Lock] = {chain: asyncio.Lock() for chain in AUDIT_CHAINS}
        self._links: dict[int, None] = {}
        self._untold: Counter[AuditChain] = Counter()
        self.noted: Counter[AuditChain] = Counter()
        self.lost: Counter[AuditChain] = Counter()

    # -- what happens ------------------------------------------------------------------------------------------------

    async def record(self, entry: AuditEntry) -> None:
        """Durable when it returns, behind what was noted before. Raises StoreUnavailable: it waits on."""
        self.note(entry)
        await self._write(entry.chain)

    def note(self, entry: AuditEntry) -> None:
        self.noted[entry.chain] += 1
        waiting = self._waiting[entry.chain]
        waiting.append(entry)
        if len(waiting) > AUDIT_WAITING.value:
            waiting.popleft()
            self.lost[entry.chain] += 1
            self._untold[entry.chain] += 1

    def logged_in(self, principal: Principal, link: LinkInfo) -> None:
        """A credential was found good: one entry for each connection and identity (L-I5)."""
        actor, credential = principal.name, credential_of(principal)
        if link.surface != "mqtt":  # whose connections log in once
            key = hash((link.peer, actor, credential))
            if key in self._links:
                return
            self._links[key] = None
            if len(self._links) > _LINKS:
                del self._links[next(iter(self._links))]
        self.note(
            AuditEntry(
                chain="logins",
                time=self.now(),
                actor=actor,
                credential=credential,
                surface=link.surface,
                peer=link.peer,
                operation="login",
                target="/".join(principal.path[1::2]) if principal.device_id else "",
                outcome="accepted",
            )
        )

    def refused(self, refusal: Refusal) -> None:
        self.note(
            AuditEntry(
                chain="refusals",
                time=int(refusal.time * 1000),
                actor=refusal.identity,
                surface=refusal.surface,
                peer=refusal.peer,
                operation=refusal.operation,
                outcome=f"{refusal.code} {refusal.name}",
                detail=refusal.reason,
                tracking_id=refusal.tracking_id,
            )
        )

    def of_hub(self, operation: str, detail: str = "") -> None:
        """What the hub did by itself."""
        time = self.now()
        self.note(
            AuditEntry(chain="changes", time=time, actor="hub", operation=operation, outcome="done", detail=detail)
        )

    def now(self) -> int:
        """Unix milliseconds."""
        return int(self._clock.now() * 1000)

    # -- what is kept ------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Once a second. Raises StoreUnavailable: what could not be written waits on."""
        for chain, waiting in self._waiting.items():
            if missing := self._untold.pop(chain, 0):
                waiting.appendleft(self._gap(chain, missing))
            await self._write(chain)

    async def find(self, query: AuditQuery) -> Sequence[ChainedEntry]:
        """All that match, those noted just now as well. Raises StoreUnavailable."""
        await self.flush()
        return await self._store.find(query)

    async def heads(self) -> Mapping[AuditChain, AuditHead]:
        """Where each chain ends. Kept elsewhere, it shows later that nothing before it was taken away."""
        await self.flush()
        return await self._store.heads()

    async def tell_heads(self) -> None:
        """Where the chains end, for the hub's log, which others may keep (audit verify --expect)."""
        for chain, head in (await self.heads()).items():
            log.info("audit: %s:%d:%s", chain, head.sequence, head.hash.hex())

    async def finish(self) -> None:
        """The hub stops."""
        self.of_hub("hub/stop")
        try:
            await self.flush()
        except HubError as error:
            log.warning("the end of the audit could not be written: %s", error.reason)

    async def _write(self, chain: AuditChain) -> None:
        """What waits now, and what another caller is writing. Raises StoreUnavailable: it waits on."""
        waiting = self._waiting[chain]
        async with self._writing[chain]:
            for _ in range(0, len(waiting), _AT_ONCE):
                entries = [waiting.popleft() for _ in range(min(len(waiting), _AT_ONCE))]
                try:
                    await self._store.append(entries, self._keep)
                except HubError:  # a caller that goes away cancels no write
                    waiting.extendleft(reversed(entries))
                    raise

    def _gap(self, chain: AuditChain, missing: int) -> AuditEntry:
        return AuditEntry(
            chain=chain,
            time=self.now(),
            actor="hub",
            operation="audit/lost",
            outcome="lost",
            detail=f"{missing} entries came faster than they could be written",
        )


def credential_of(principal: Principal) -> str:
    """Kind, and which of two keys or which authority; never the credential itself."""
    if principal.registration is not None:
        kind, name = principal.registration.attestation, principal.registration.enrolment
        return f"{kind} of enrolment {name.id}"
    which = f"authority {principal.authority}" if principal.authority else principal.key
    return f"{principal.auth_type} {which}".strip()
