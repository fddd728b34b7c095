"""The instrument for queues and twins: it finds each kind of fault, and only that kind."""

from collections.abc import Callable
from typing import Any

import pytest

from faults.queue_ledger import DesiredView, Outcome, QueueLedger, SectionLedger


def record(message_id: str, status: str) -> dict[str, Any]:
    return {"originalMessageId": message_id, "statusCode": status}


class Story:
    """A faultless one: four messages to device d, one for each end, and one to a sender who was refused."""

    def __init__(self) -> None:
        self.ledger = ledger = QueueLedger()
        self.ids: dict[str, str] = {}
        self.bodies: dict[str, bytes] = {}
        for name, ack, expires in (
            ("completed", "full", False),
            ("rejected", "negative", False),
            ("expired", "full", True),
            ("silent", "none", False),
            ("refused", "full", False),
            ("unsure", "full", False),
        ):
            self.ids[name], self.bodies[name] = ledger.begin("s", "d", ack, expires=expires)
        ledger.accepted = {self.ids[each] for each in ("completed", "rejected", "expired", "silent")}
        ledger.refused = {self.ids["refused"]}
        self.deliver("completed")
        self.deliver("completed")
        self.settle("completed", "completed")
        self.deliver("rejected")
        self.settle("rejected", "rejected")
        self.deliver("silent")
        self.settle("silent", "completed")
        self.tell("1", "completed", "Success")
        self.tell("1", "completed", "Success")  # the batch came again before it was completed
        self.ledger.batch_read("1")
        self.tell("2", "rejected", "Rejected")

    def deliver(self, name: str, device: str = "d") -> None:
        self.ledger.delivery(device, self.ids[name], self.bodies[name])

    def settle(self, name: str, outcome: Outcome) -> None:
        self.ledger.trying(self.ids[name], outcome)
        self.ledger.confirm(self.ids[name], outcome)

    def tell(self, batch: str, name: str, status: str) -> None:
        self.ledger.feedback(batch, [record(self.ids[name], status)])


def test_a_faultless_hub_has_no_faults() -> None:
    story = Story()
    story.tell("3", "expired", "Expired")
    findings = story.ledger.check()
    assert findings.faults == 0, findings
    assert (findings.accepted, findings.delivered, findings.delivered_again) == (4, 3, 1)


@pytest.mark.parametrize(
    ("happens", "fault"),
    [
        (lambda story: None, "lost"),
        (lambda story: story.tell("3", "expired", "Rejected"), "wrong_ends"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.tell("4", "expired", "Expired")], "ended_again"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.deliver("completed")], "ended_again"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.tell("1", "completed", "Success")], "ended_again"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.tell("4", "silent", "Success")], "unasked"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.deliver("refused")], "unexpected"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.deliver("unsure", "e")], "unexpected"),
        (lambda story: [story.deliver("unsure"), story.deliver("expired"), story.tell("3", "expired", "Expired")],
         "order_breaks"),
        (lambda story: [story.tell("3", "expired", "Expired"), story.ledger.delivery("d", story.ids["unsure"], b"?")],
         "altered"),
    ],
)  # fmt: skip
def test_each_fault_is_found(happens: Callable[[Story], Any], fault: str) -> None:
    story = Story()
    happens(story)
    findings = story.ledger.check()
    assert (getattr(findings, fault), findings.faults) == (1, 1), findings


def changed(*versions: int) -> SectionLedger:
    ledger = SectionLedger()
    for version in versions:
        ledger.begin()
        if version:
            ledger.acknowledge(version)
    return ledger


def test_a_section_holds_what_was_acknowledged_and_perhaps_more() -> None:
    ledger = changed(2, 3, 0)
    assert not ledger.check({"s0": 0, "s1": 1, "$version": 3})
    assert not ledger.check({"s0": 0, "s1": 1, "s2": 2, "$version": 4})


@pytest.mark.parametrize(
    ("ledger", "section", "fault"),
    [
        (changed(2, 3), {"s0": 0, "$version": 3}, "change 1 is lost: s1 is None"),
        (changed(2, 3), {"s0": 0, "s1": 1, "$version": 2}, "version 2 of 2 of 2 changes"),
        (changed(2, 3), {"s0": 0, "s1": 1, "$version": 4}, "version 4 of 2 of 2 changes"),
        (changed(2, 2), {"s0": 0, "s1": 1, "$version": 3}, "version 2 after 2"),
        (changed(2), {"s0": 0, "s1": 1, "$version": 2}, "s1 is 1, which nobody wrote"),
    ],
)
def test_what_is_wrong_with_a_section_is_told(ledger: SectionLedger, section: dict[str, Any], fault: str) -> None:
    assert ledger.check(section) == [fault]


def test_a_view_of_desired_properties_notices_gaps() -> None:
    view = DesiredView()
    view.connected()
    view.pushed({"a": 2, "$version": 3})  # before the twin, that has it
    view.pushed({"a": 3, "$version": 4})
    view.got({"a": 2, "$version": 3})
    view.pushed({"b": 1, "$version": 5})
    assert (view.properties, view.faults) == ({"a": 3, "b": 1, "$version": 5}, [])
    view.pushed({"b": 2, "$version": 7})
    assert view.faults == ["version 7 was pushed after 5"]
    view.connected()
    view.got({"a": 3, "b": 2, "$version": 6})
    assert view.faults[1:] == ["the twin has version 6, 7 was pushed before"]
