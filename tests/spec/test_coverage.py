"""Each statement of the specification is covered by a test or listed with the reason why not, never both.

To mend the list after new tests: ``python tests/spec/mend.py`` takes off what is covered now.
"""

from collections import Counter

import pytest

from spec.coverage import (
    NotCovered,
    expanded,
    is_whole_run,
    marks_in_source,
    marks_of,
    open_questions,
    statements,
    surfaces,
)

MEND = "python tests/spec/mend.py takes them off tests/spec/not-covered.toml"


def test_every_mark_names_a_statement() -> None:
    known = statements().keys() | open_questions()
    assert not {each: files for each, files in marks_in_source().items() if each not in known}


def test_the_list_names_statements_once() -> None:
    listed = NotCovered().ids
    assert not set(listed) - statements().keys()
    assert not [each for each, times in Counter(listed).items() if times > 1]


def test_every_reason_is_one() -> None:
    assert not [each for each, reason in NotCovered().reasons.items() if len(reason) < 15]


def test_what_is_covered_is_not_listed_as_uncovered() -> None:
    assert not sorted(set(NotCovered().ids) & marks_in_source().keys()), MEND


def test_in_a_whole_run_every_statement_is_covered_or_listed(request: pytest.FixtureRequest) -> None:
    """A run of some of the tests shows nothing about the rest, and passes."""
    session = request.session
    if not is_whole_run(session.config, session.items):
        return
    covered = {each for item in session.items for each in marks_of(item)}
    assert not covered - statements().keys() - open_questions(), "marks that name no statement"
    listed = set(NotCovered().ids)
    assert not sorted(statements().keys() - covered - listed), "write a test, or list them with the reason"
    assert not sorted(covered & listed), MEND


def test_no_statement_is_on_two_surfaces() -> None:
    ids = [each for groups in surfaces().values() for of in groups.values() for each in of]
    assert len(ids) == len(set(ids)) == len(statements())


def test_ranges() -> None:
    assert expanded("D-1..D-3 P-V8a PC01..PC02") == ["D-1", "D-2", "D-3", "P-V8a", "PC01", "PC02"]
    with pytest.raises(ValueError, match="no range"):
        expanded("D-1..S-3")
