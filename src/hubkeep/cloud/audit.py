"""Every refusal, with its reason, for the operator alone (L-R10; ``hubkeep explain``)."""

import logging
import re
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from hubkeep.errors import HubError, on_wire
from hubkeep.model import LinkInfo, Refusal
from hubkeep.ports import Clock, RefusalStore

log = logging.getLogger("hubkeep.refusals")

_WAITING: Final = 5000
_VALUE: Final = 512
_LINES_PER_SECOND: Final = 10
_SECRET: Final = re.compile(r"(?i)(sig|sharedaccesskey|password|key)=[^&;\s]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Refusals:
    """Implements ports.RecordRefusal as ``record``. Waiting refusals are bounded; ``flush`` stores them."""

    def __init__(self, store: RefusalStore, clock: Clock, keep: int) -> None:
        self._store, self._clock, self._keep = store, clock, keep
        self._waiting: deque[Refusal] = deque(maxlen=_WAITING)
        self._second = 0
        self._lines: Counter[str] = Counter()
        self.counts: Counter[int] = Counter()  # by six-digit code

    def record(self, error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:
        """See ports.RecordRefusal."""
        if error.tracking_id:
            return error.tracking_id
        error.tracking_id = uuid.uuid4().hex
        row = on_wire(error)
        refusal = Refusal(
            tracking_id=error.tracking_id,
            time=self._clock.now(),
            surface=link.surface,
            peer=link.peer,
            identity=_safe(identity),
            operation=operation,
            code=row.number,
            name=row.name,
            reason=_safe(error.reason),
            remedy=_safe(error.remedy),
            presented={name: _safe(value) for name, value in presented.items() if value},
        )
        self._waiting.append(refusal)
        self.counts[refusal.code] += 1
        self._log(refusal)
        return error.tracking_id

    async def flush(self) -> None:
        """Store what waits, in one transaction; what fails to be stored waits on."""
        if not self._waiting:
            return
        taken = list(self._waiting)
        self._waiting.clear()
        try:
            await self._store.add(taken, self._keep)
        except HubError as error:
            self._waiting.extendleft(reversed(taken))
            log.warning("refusals could not be stored: %s", error.reason)

    async def find(self, key: str, most: int = 20) -> Sequence[Refusal]:
        """Newest first, by tracking id or identity as claimed; an empty key means all."""
        await self.flush()
        return await self._store.find(key, most)

    def _log(self, refusal: Refusal) -> None:
        second = int(self._clock.monotonic())
        if second != self._second:
            for source, count in self._lines.items():
                if count > _LINES_PER_SECOND:
                    log.warning("refused from %s: %d more", source, count - _LINES_PER_SECOND)
            self._second = second
            self._lines.clear()
        source = refusal.peer.rpartition(":")[0]
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


def _safe(text: str) -> str:
    """Bounded, without control characters, without what looks like a secret."""
    text = _SECRET.sub(lambda found: f"{found[1]}=***", text[: 4 * _VALUE])
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text if len(text) <= _VALUE else text[: _VALUE - 1] + "…"
