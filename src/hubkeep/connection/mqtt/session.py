"""What a client id leaves behind for its next connection: the subscriptions of a session that is not clean (3.3)."""

from collections import OrderedDict
from typing import Final

_KEPT: Final = 100_000


class StoredSessions:
    """Subscriptions by client id: filter to granted QoS. Bounded; the least recently used go first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, dict[bytes, int]] = OrderedDict()

    def resume(self, client_id: str, *, clean: bool) -> tuple[dict[bytes, int], bool]:
        """The subscriptions to go on with, and whether there was a session (Session Present)."""
        if clean:
            self._sessions.pop(client_id, None)
            return {}, False
        present = client_id in self._sessions
        subscriptions = self._sessions.setdefault(client_id, {})
        self._sessions.move_to_end(client_id)
        if len(self._sessions) > _KEPT:
            self._sessions.popitem(last=False)
        return subscriptions, present
