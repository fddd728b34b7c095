"""Every refusal, with its reason, for the operator alone (L-R10; ``hubkeep explain``). Start at ``Refusals.record``."""

import itertools
import logging
import re
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from hubkeep.errors import HubError, on_wire, row_of
from hubkeep.model import LinkInfo, Refusal
from hubkeep.ports import Clock, RefusalStore

log = logging.getLogger("hubkeep.refusals")

_WAITING: Final = 5000
_VALUE: Final = 512  # characters
_PRESENTED: Final = 32  # values of one refusal
_LINES_PER_SECOND: Final = 10
_SOURCES: Final = 1000  # counted one by one; the rest share a count
_OTHERS: Final = "other addresses"
_HIDDEN: Final = "[hidden]"
_SECRET_NAMES: Final = frozenset({"sig", "signature", "password", "key", "token", "authorization", "secret"})
_NAMED_SECRET: Final = re.compile(
    r"(?i)((?:sig|signature|sharedaccesskey|primarykey|secondarykey|authenticationkey|accountkey|password)"
    r"""["']?(?:=|:|%3d)["']?)[^&;,\s"']+"""
)
_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/]{22,}")  # 16 bytes, the shortest key; padding tells nothing
_HEX: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")


class Refusals:
    """``record`` is a ports.RecordRefusal. What waits for ``flush`` is bounded; beyond that the oldest go.

    counts: by six-digit code, since the start. rows: by row of limits-and-faults (L-R10).
    dropped: refusals that were counted but not kept.
    """

    def __init__(
        self, store: RefusalStore, clock: Clock, keep: int, audited: Callable[[Refusal], None] = lambda _: None
    ) -> None:
        """audited: hears of every refusal at once."""
        self._store, self._clock, self._keep, self._audited = store, clock, keep, audited
        self._waiting: deque[Refusal] = deque()
        self._being_stored: Sequence[Refusal] = ()
        self._second = 0
        self._lines: Counter[str] = Counter()
        self.counts: Counter[int] = Counter()
        self.rows: Counter[str] = Counter()
        self.dropped = 0

    def record(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """See ports.RecordRefusal. An error that has been recorded already keeps its tracking id."""
        if error.tracking_id:
            return error.tracking_id
        error.tracking_id = uuid.uuid4().hex
        row = on_wire(error)
        self.counts[row.number] += 1
        self.rows[row_of(error)] += 1
        if error.is_repeat:
            return error.tracking_id
        try:
            refusal = Refusal(
                tracking_id=error.tracking_id,
                time=self._clock.now(),
                surface=link.surface,
                peer=link.peer,
                identity=safe_name(identity),
                operation=safe(operation),
                code=row.number,
                name=row.name,
                cause=error.cause,
                reason=safe(error.reason),
                remedy=safe(error.remedy),
                presented={
                    safe(name): _HIDDEN if name.lower() in _SECRET_NAMES and _may_be_secret(value) else safe(value)
                    for name, value in list(presented.items())[:_PRESENTED]
                    if value
                },
            )
            self._audited(refusal)
            self._waiting.append(refusal)
            self._bound()
            self._log(refusal)
        except Exception:  # whoever refuses must get its tracking id, and the peer its answer
            self.dropped += 1
            log.exception("a refusal could not be recorded")
        return error.tracking_id

    async def flush(self) -> None:
        """Store what waits, in one transaction; what fails to be stored waits on. Tells of lines left out."""
        if int(self._clock.monotonic()) != self._second:
            self._tell_left_out()
        if not self._waiting or self._being_stored:
            return
        self._being_stored = tuple(self._waiting)
        self._waiting.clear()
        try:
            await self._store.add(self._being_stored, self._keep)
        except BaseException as error:
            self._waiting.extendleft(reversed(self._being_stored))
            self._bound()
            if not isinstance(error, HubError):
                raise
            log.warning("refusals could not be stored: %s", error.reason)
        finally:
            self._being_stored = ()

    async def find(self, key: str, most: int = 20) -> Sequence[Refusal]:
        """Newest first, by tracking id (dashes or not) or identity as claimed; an empty key means all.

        Finds those not yet stored too. Raises StoreUnavailable.
        """
        plain = key.replace("-", "").lower()
        wanted = {key, plain} if len(plain) == 32 else {key}
        fresh = (*self._being_stored, *self._waiting)
        found = [each for each in reversed(fresh) if not key or each.tracking_id in wanted or each.identity == key]
        for each in wanted:
            # one that was stored meanwhile is not shown twice
            known = {refusal.tracking_id for refusal in found}
            stored = await self._store.find(each, most)
            found += [refusal for refusal in stored if refusal.tracking_id not in known]
        return found[:most]

    def _bound(self) -> None:
        while len(self._waiting) > _WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def _log(self, refusal: Refusal) -> None:
        second = int(self._clock.monotonic())
        if second != self._second:
            self._tell_left_out()
            self._second = second
        source = refusal.peer.rpartition(":")[0]
        if source not in self._lines and len(self._lines) >= _SOURCES:
            source = _OTHERS
        self._lines[source] += 1
        if self._lines[source] <= _LINES_PER_SECOND:
            log.warning(
                "refused %s %s of %s from %s: %s (%d, tracking id %s)",
                refusal.surface,
                refusal.operation,
                refusal.identity or "nobody",
                refusal.peer,
                refusal.reason,
                refusal.code,
                refusal.tracking_id,
            )

    def _tell_left_out(self) -> None:
        for source, count in self._lines.items():
            if count > _LINES_PER_SECOND:
                log.warning("refused from %s: %d more", source, count - _LINES_PER_SECOND)
        self._lines.clear()


def safe(text: str) -> str:
    """``text`` for a record that people read: bounded, no control characters, nothing that may be a secret."""
    return _BASE64_RUN.sub(lambda found: _HIDDEN if _looks_like_a_key(found[0]) else found[0], safe_name(text))


def safe_name(text: str) -> str:
    """The same for an identity, which must be found again even if its id looks like a key."""
    text = str(text)[: 4 * _VALUE]
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    folded = text.casefold()
    if "key" in folded or "sig" in folded or "password" in folded:  # every name has one: the search itself is slow
        text = _NAMED_SECRET.sub(lambda found: found[1] + _HIDDEN, text)
    return text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"


def _may_be_secret(value: str) -> bool:
    # "primary", "12 characters that are no token": words about a secret, not the secret
    return " " not in value and len(value) > 12


def _looks_like_a_key(run: str) -> bool:
    """Random base64 goes from upper case to lower case to digits at most steps; words, paths and hex digits do not."""
    if _HEX.fullmatch(run):
        return False
    kinds = ["u" if each.isupper() else "l" if each.islower() else "d" if each.isdigit() else each for each in run]
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    return len({"u", "l", "d"} & set(kinds)) >= 2 and changes > 0.4 * len(run)
