"""Merging and stamping of twin sections, for any JSON."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubkeep.messaging.twin_sections import merged, patched, replaced, with_vanished
from hubkeep.model import Json, TwinSection

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYS = st.sampled_from(["a", "b", "c"])
SCALARS: st.SearchStrategy[Any] = st.integers(0, 3) | st.booleans() | st.text(max_size=2)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=3)
PATCHES = st.dictionaries(
    KEYS,
    st.recursive(SCALARS | st.none(), lambda inner: st.dictionaries(KEYS, inner | st.none(), max_size=3), max_leaves=8),
    max_size=3,
)


def section(document: Json) -> TwinSection:
    return replaced(TwinSection({}, {}, 1), document, "then")


def paths(value: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every object and leaf of a document, and every node of a metadata tree."""
    found = {prefix: value}
    if isinstance(value, dict):
        for key, member in value.items():
            if not key.startswith("$"):
                found |= paths(member, (*prefix, key))
    return found


@few
@given(DOCUMENTS, DOCUMENTS)
def test_a_patch_of_what_vanished_leads_from_one_document_to_the_other(before: Json, after: Json) -> None:
    assert merged(before, with_vanished(before, after)) == after


@few
@given(DOCUMENTS, PATCHES)
def test_a_patch_applied_twice_is_applied_once(before: Json, patch: Json) -> None:
    once = merged(before, patch)
    assert merged(once, patch) == once
    assert None not in [each for each in paths(once).values() if not isinstance(each, list)]


@few
@given(DOCUMENTS, PATCHES)
def test_nothing_that_went_in_is_changed(before: Json, patch: Json) -> None:
    kept = repr((before, patch))
    patched(section(before), patch, "now", versions=True)
    assert repr((before, patch)) == kept


@few
@given(DOCUMENTS, PATCHES)
def test_metadata_mirror_the_properties_and_tell_what_the_patch_touched(before: Json, patch: Json) -> None:
    after = patched(section(before), patch, "now", versions=True)
    nodes, properties = paths(after.metadata), paths(after.properties)
    assert nodes.keys() == properties.keys()
    assert after.version == 3
    for path, node in nodes.items():
        touched = path in paths(patch)
        expected = {"$lastUpdated": "now", "$lastUpdatedVersion": 3}
        if not touched:
            expected = {"$lastUpdated": "then", "$lastUpdatedVersion": 2}
        assert {key: value for key, value in node.items() if key.startswith("$")} == expected, path
