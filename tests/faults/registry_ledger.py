"""What became of identities that were made, changed and deleted: the ledger of the registry, in the ledger's words."""

from collections.abc import Mapping

from faults.ledger import Findings


class RegistryLedger:
    """Each identity has one writer, which makes one change at a time.

    A change is a text that the identity carries (its status reason), or None for its deletion; every text is used once.
    """

    def __init__(self) -> None:
        self._changes: dict[str, list[str | None]] = {}
        self._acknowledged: dict[str, int] = {}  # the newest change of each
        self._attempted = self._answered = 0

    def begin(self, identity: str, *, deletes: bool = False) -> str | None:
        """The next change."""
        changes = self._changes.setdefault(identity, [None])  # at first it is not there
        change = None if deletes else f"change {len(changes)} of {identity}"
        changes.append(change)
        self._attempted += 1
        return change

    def acknowledge(self, identity: str) -> None:
        """The newest change was."""
        self._acknowledged[identity] = len(self._changes[identity]) - 1
        self._answered += 1

    @property
    def acknowledged(self) -> int:
        return self._answered

    @property
    def identities(self) -> frozenset[str]:
        return frozenset(self._changes)

    def check(self, found: Mapping[str, str | None]) -> Findings:
        """found: identities that there are, with what they carry, those of others left out.

        A change that was not acknowledged may have been made or not; none before the newest acknowledged one counts.
        """
        lost = altered = unexpected = order_breaks = 0
        for identity, changes in self._changes.items():
            oldest, now = self._acknowledged.get(identity, 0), found.get(identity)
            if now in changes[oldest:]:
                continue
            if now is None:
                lost += 1
            elif now in changes:
                order_breaks += 1  # back at an older change
            else:
                altered += 1
        unexpected = sum(each not in self._changes for each in found)
        return Findings(self._attempted, self._answered, len(found), lost, altered, unexpected, order_breaks, 0, 0, 0)
