"""What became of cloud-to-device messages and twin changes, on every side: one instrument for the kills under both."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from faults.ledger import body_of

Outcome = Literal["completed", "rejected", "abandoned"]
_SUCCESS = "Success"
_STATUS_OF: dict[str, str] = {"completed": _SUCCESS, "rejected": "Rejected"}
_MOST_DELIVERIES = 10


class Sent(NamedTuple):
    """A message that was begun. ack: the feedback it asks for. expires: it has little time."""

    device: str
    number: int
    ack: str
    expires: bool


class QueueFindings(NamedTuple):
    """All from ``lost`` on must be 0."""

    attempted: int
    accepted: int
    delivered: int
    delivered_again: int
    told: int  # records of feedback
    lost: int  # accepted, and it never ended, or nobody was told who asked for it
    altered: int
    unexpected: int  # never sent, sent to another device, or refused
    wrong_ends: int  # the end that was told is not the one that a device was confirmed, or that any device tried
    ended_again: int  # told twice in different batches, or delivered after its end was confirmed
    unasked: int  # feedback that the message did not ask for
    order_breaks: int  # a sender's messages, each first seen by a device

    @property
    def faults(self) -> int:
        return sum(self[5:])


class QueueLedger:
    """Filled by senders, devices and readers of feedback as they go."""

    def __init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.deliveries: Counter[str] = Counter()
        self.tried: dict[str, Counter[Outcome]] = {}
        self.confirmed: dict[str, Outcome] = {}  # by the hub; an abandoned one is not at its end
        self.told: dict[str, dict[str, str]] = {}  # message to batch to status
        self._read: set[str] = set()  # batches whose completion was confirmed
        self._newest: dict[tuple[str, str], int] = {}
        self.altered = self.unexpected = self.order_breaks = self.delivered_after_end = self.batches_again = 0

    # -- what happens ------------------------------------------------------------------------------------------------

    def begin(self, sender: str, device: str, ack: str, *, expires: bool = False) -> tuple[str, bytes]:
        """Id and body of the next message."""
        number = len(self.sent)
        message_id = f"{sender}:{number}"
        self.sent[message_id] = Sent(device, number, ack, expires)
        return message_id, body_of(device, number)

    def delivery(self, device: str, message_id: str, body: bytes) -> None:
        sent = self.sent.get(message_id)
        if sent is None or sent.device != device:
            self.unexpected += 1
            return
        self.altered += body != body_of(device, sent.number)
        self.delivered_after_end += message_id in self.confirmed
        self.deliveries[message_id] += 1
        if self.deliveries[message_id] == 1:
            key = (device, message_id.partition(":")[0])
            self.order_breaks += sent.number < self._newest.get(key, -1)
            self._newest[key] = sent.number

    def trying(self, message_id: str, outcome: Outcome) -> None:
        self.tried.setdefault(message_id, Counter())[outcome] += 1

    def confirm(self, message_id: str, outcome: Outcome) -> None:
        if outcome != "abandoned":
            self.confirmed[message_id] = outcome

    def feedback(self, batch: str, records: Iterable[dict[str, Any]]) -> None:
        self.batches_again += batch in self._read
        for record in records:
            self.told.setdefault(record["originalMessageId"], {})[batch] = record["statusCode"]

    def batch_read(self, batch: str) -> None:
        """The hub confirmed that the batch is gone."""
        self._read.add(batch)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def check(self) -> QueueFindings:
        """Once all queues are empty and all feedback has come."""
        lost = wrong = again = unasked = 0
        for message_id, sent in self.sent.items():
            told = list(self.told.get(message_id, {}).values())
            again += len(told) > 1
            unasked += any(not _asks(sent.ack, status) for status in told)
            wrong += any(not self._is_plausible(message_id, sent, status) for status in told)
            if message_id in self.accepted and not told:
                lost += self._must_be_told(message_id, sent)
        refused = sum(each in self.deliveries or each in self.told for each in self.refused)
        strangers = sum(each not in self.sent for each in self.told)
        return QueueFindings(
            attempted=len(self.sent),
            accepted=len(self.accepted),
            delivered=len(self.deliveries),
            delivered_again=self.deliveries.total() - len(self.deliveries),
            told=sum(map(len, self.told.values())),
            lost=lost,
            altered=self.altered,
            unexpected=self.unexpected + refused + strangers,
            wrong_ends=wrong,
            ended_again=again + self.delivered_after_end + self.batches_again,
            unasked=unasked,
            order_breaks=self.order_breaks,
        )

    def _possible(self, message_id: str, sent: Sent) -> set[str]:
        """How an accepted message can have ended. Empty: nobody ever had it, and it had time."""
        if (confirmed := self.confirmed.get(message_id)) is not None:
            return {_STATUS_OF[confirmed]}
        tried = self.tried.get(message_id, Counter())
        possible = {_STATUS_OF[each] for each in tried if each in _STATUS_OF}
        if sent.expires:
            possible.add("Expired")
        if tried["abandoned"] >= _MOST_DELIVERIES:
            possible.add("DeliveryCountExceeded")
        return possible

    def _is_plausible(self, message_id: str, sent: Sent, status: str) -> bool:
        return status in self._possible(message_id, sent)

    def _must_be_told(self, message_id: str, sent: Sent) -> bool:
        possible = self._possible(message_id, sent)
        return not possible or all(_asks(sent.ack, status) for status in possible)


def _asks(ack: str, status: str) -> bool:
    return ack in {"full", "positive" if status == _SUCCESS else "negative"}


class SectionLedger:
    """One section of one twin, changed by one writer, one change at a time: ``{slot: number}`` patches.

    faults: what the writer was told that cannot be.
    """

    def __init__(self) -> None:
        self.attempted: list[dict[str, int]] = []
        self.versions: list[tuple[int, int]] = []  # acknowledged: number of the change and its version
        self.faults: list[str] = []

    def begin(self) -> dict[str, int]:
        """The next patch."""
        number = len(self.attempted)
        patch = {f"s{number % 20}": number}
        self.attempted.append(patch)
        return patch

    def acknowledge(self, version: int) -> None:
        """The newest patch was."""
        number = len(self.attempted) - 1
        if self.versions and not version > self.versions[-1][1]:
            self.faults.append(f"version {version} after {self.versions[-1][1]}")
        self.versions.append((number, version))

    def check(self, section: dict[str, Any]) -> list[str]:
        """section: as it is now, with its ``$version``. What is wrong with it."""
        faults, version = list(self.faults), section["$version"]
        acknowledged = [number for number, _ in self.versions]
        if not 1 + len(acknowledged) <= version <= 1 + len(self.attempted):
            faults.append(f"version {version} of {len(acknowledged)} of {len(self.attempted)} changes")
        for slot, number in section.items():
            if slot == "$version":
                continue
            if not 0 <= number < len(self.attempted) or self.attempted[number] != {slot: number}:
                faults.append(f"{slot} is {number}, which nobody wrote")
        for number in acknowledged:
            (slot,) = self.attempted[number]
            if section.get(slot, -1) < number:
                faults.append(f"change {number} is lost: {slot} is {section.get(slot)}")
        return faults


class DesiredView:
    """What a device makes of its desired properties: gets the twin once a connection, then applies what is pushed."""

    def __init__(self) -> None:
        self.properties: dict[str, Any] = {}
        self.version = 0
        self.pushes = 0
        self.faults: list[str] = []
        self._early: list[dict[str, Any]] | None = None

    def connected(self) -> None:
        """A new connection: pushes before the first twin are kept."""
        self._early = []

    def got(self, desired: dict[str, Any]) -> None:
        if desired["$version"] < self.version:
            self.faults.append(f"the twin has version {desired['$version']}, {self.version} was pushed before")
        self.properties, self.version = dict(desired), desired["$version"]
        early, self._early = self._early or [], None
        for patch in early:
            if patch["$version"] > self.version:
                self.pushed(patch)

    def pushed(self, patch: dict[str, Any]) -> None:
        self.pushes += 1
        if self._early is not None:
            if self._early and patch["$version"] != self._early[-1]["$version"] + 1:
                self.faults.append(f"version {patch['$version']} was pushed after {self._early[-1]['$version']}")
            self._early.append(patch)
            return
        if patch["$version"] != self.version + 1:
            self.faults.append(f"version {patch['$version']} was pushed after {self.version}")
        self.properties.update(patch)
        self.version = patch["$version"]
