"""The instrument itself: it finds each kind of fault, and only that kind."""

from collections.abc import Callable

import pytest

from faults.ledger import Ledger, ReadBack, body_of, perfect
from faults.registry_ledger import RegistryLedger

Events = list[ReadBack]
DEVICES = ("a", "b")


def ledger() -> Ledger:
    made = Ledger()
    for device in DEVICES:
        made.add(device, 12, range(10))  # two were not acknowledged
    return made


def test_a_faultless_hub_has_no_faults() -> None:
    for each in (10, 11, 12):
        findings = ledger().check(perfect(DEVICES, each))
        assert findings.faults == 0
        assert (findings.attempted, findings.acknowledged, findings.read_back) == (24, 20, 2 * each)


def renumbered(events: Events) -> Events:
    return [event._replace(sequence=number, offset=number) for number, event in enumerate(events)]


def swapped(events: Events) -> Events:
    return renumbered([*events[:4], events[6], events[5], events[4], *events[7:]])


@pytest.mark.parametrize(
    ("damage", "fault", "count"),
    [
        (lambda events: renumbered(events[:5] + events[6:]), "lost", 1),
        (lambda events: [*events[:5], events[5]._replace(body=events[5].body[:-1] + b"?"), *events[6:]], "altered", 1),
        (lambda events: renumbered([*events, ReadBack(0, 0, 0, "a", body_of("a", 12))]), "unexpected", 1),
        (lambda events: renumbered([*events, ReadBack(0, 0, 0, "c", body_of("c", 0))]), "unexpected", 1),
        (swapped, "order_breaks", 1),
        (lambda events: [*events[:9], *(each._replace(sequence=each.sequence + 1) for each in events[9:])], "gaps", 1),
        (lambda events: renumbered([*events, events[-1]]), "duplicates", 1),
        (lambda events: [*events[:9], events[9]._replace(offset=0), *events[10:]], "offset_breaks", 1),
    ],
)
def test_each_fault_is_found(damage: Callable[[Events], Events], fault: str, count: int) -> None:
    findings = ledger().check(damage(list(perfect(DEVICES, 10))))
    assert getattr(findings, fault) == count
    others = findings.faults - count
    assert others == (1 if fault == "altered" else 0)  # what was altered is lost as well


def test_the_ledger_of_the_registry_tells_what_became_of_changes() -> None:
    ledger = RegistryLedger()
    first = ledger.begin("one")
    ledger.acknowledge("one")
    second = ledger.begin("one")
    ledger.begin("two")
    for found in ({"one": first}, {"one": second}, {"one": second, "two": "change 1 of two"}):
        assert ledger.check(found).faults == 0, "what was not acknowledged may be there, or not"
    assert ledger.check({}).lost == 1
    assert ledger.check({"one": "another text"}).altered == 1
    assert ledger.check({"one": first, "three": "x"}).unexpected == 1
    ledger.acknowledge("one")
    assert ledger.check({"one": first}).order_breaks == 1
    ledger.begin("one", deletes=True)
    ledger.acknowledge("one")
    assert ledger.check({}).faults == 0
    assert ledger.check({"one": second}).order_breaks == 1, "it came back"
