"""Bytes that came and are not parsed yet: linear work however the peer cuts them (limits-and-faults L-R5)."""


class Inbox:
    """Base of the pulled connections. Parse ``_data`` from ``_at``; call ``_wait`` when a unit is not whole yet.

    What waits for more is gathered in one growing buffer and looked at again only when enough has come. Invariant:
    while something is held, ``_data`` is empty.
    """

    __slots__ = ("_at", "_data", "_held", "_needed")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._held: bytearray | None = None
        self._needed = 0  # bytes of which the unit that begins at _at consists, as far as is known

    @property
    def unread(self) -> int:
        """Bytes received and not yet parsed: the caller bounds them by not reading its socket."""
        held = self._held
        return len(self._data) - self._at if held is None else len(held)

    def _put(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data
        elif self._at == len(self._data):
            self._data, self._at = data, 0
        else:
            self._held = bytearray(memoryview(self._data)[self._at :])
            self._held += data
            self._data, self._at = b"", 0

    def _wait(self, size: int) -> None:
        """Nothing can be made of the bytes at ``_at`` before there are ``size`` of them."""
        self._needed = size

    def _is_worth_parsing(self) -> bool:
        held = self._held
        if held is None:
            return True
        if len(held) < self._needed:
            return False
        self._data, self._at, self._held, self._needed = bytes(held), 0, None, 0
        return True

    def _discard(self) -> None:
        self._data, self._at, self._held = b"", 0, None
