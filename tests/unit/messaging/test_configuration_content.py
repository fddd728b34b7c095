"""How settings are laid over desired properties and taken off again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hubkeep.messaging.configuration_content import settings_patch, without_settings
from hubkeep.messaging.twin_sections import difference, merged

NAMES = st.sampled_from("abc")
SECTIONS: Any = st.recursive(
    st.dictionaries(NAMES, st.integers(0, 2) | st.booleans(), max_size=3),
    lambda inner: st.dictionaries(NAMES, inner | st.integers(0, 2), max_size=3),
    max_leaves=8,
)


@given(SECTIONS, SECTIONS)
def test_the_difference_leads_from_one_to_the_other_and_is_empty_between_equals(before: Any, after: Any) -> None:
    assert merged(before, difference(before, after)) == after
    assert difference(after, after) == {}


def test_the_difference_is_the_least() -> None:
    before = {"a": {"x": 1, "y": 2}, "b": 1, "c": {"d": 1}}
    assert difference(before, {"a": {"x": 1, "y": 3}, "c": {"d": 1}, "e": {}}) == {"b": None, "a": {"y": 3}, "e": {}}
    assert difference({"a": 1}, {"a": True}) == {"a": True}


@given(SECTIONS, st.integers(3, 5))
def test_what_was_laid_over_empty_places_is_taken_off_again(own: Any, value: int) -> None:
    settings = {"properties.desired.x.y": value, "properties.desired.z": {"a": value}}
    assert without_settings(merged(own, settings_patch(settings)), settings) == own


def test_only_the_paths_are_taken_off() -> None:
    settings = {"properties.desired.speed.rpm": 1, "properties.desired.gone.deep": 1, "properties.desired.flat.x": 1}
    own = {"speed": {"rpm": 800, "max": 3000}, "flat": 5, "other": {}}
    assert without_settings(own, settings) == {"speed": {"max": 3000}, "flat": 5, "other": {}}
