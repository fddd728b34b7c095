"""PUBACKs in the order of their publishes (MQTT-4.6.0-2), each once its work is done."""

from collections import deque


class Held:
    """The PUBACK of a request that is answered in its own time."""

    __slots__ = ("acks", "done")

    def __init__(self, acks: bytes, *, done: bool = False) -> None:
        self.acks, self.done = acks, done


class Acknowledgements:
    """Telemetry becomes durable chunk by chunk, in order; requests between the chunks may take longer or less."""

    __slots__ = ("_entries", "_held")

    def __init__(self) -> None:
        self._entries: deque[bytes | Held] = deque()  # bytes: a chunk that is not durable yet
        self._held = 0

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, acks: bytes) -> None:
        """A chunk of telemetry on its way to the disk, with the PUBACKs that it will get."""
        self._entries.append(acks)

    def durable(self) -> bytes:
        """The oldest chunk is on disk: what may be sent now."""
        entries = self._entries
        if not self._held:
            return entries.popleft()  # type: ignore[return-value]  # with nothing held, only chunks are here
        for at, entry in enumerate(entries):
            if type(entry) is bytes:
                entries[at] = Held(entry, done=True)
                self._held += 1
                break
        return self._due()

    def hold(self, acks: bytes) -> Held:
        """A place in the order for a request; ``release`` ends it."""
        held = Held(acks)
        self._entries.append(held)
        self._held += 1
        return held

    def release(self, held: Held) -> bytes:
        """The request is carried out: what may be sent now."""
        held.done = True
        return self._due()

    def _due(self) -> bytes:
        due, entries = [], self._entries
        while entries and type(entry := entries[0]) is Held and entry.done:
            due.append(entry.acks)
            entries.popleft()
            self._held -= 1
        return b"".join(due)
