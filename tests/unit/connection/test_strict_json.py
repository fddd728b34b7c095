"""JSON that two readers could take in two ways is refused, however its text looks (L-D1)."""

import json

import pytest

from hubkeep.connection.strict_json import strict_json
from hubkeep.errors import FormatError
from hubkeep.limits import JSON_DEPTH


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": "x:y", "a": "x"}',  # a colon in a text stands for the key that is lost
        '{"a": {"b": ":", "c": [{"d": 1, "\\u0064": 2}]}}',
        '[{"a": 1}, {"b": 1, "b": 1}]',
        '{"a": 1} {"b": 2}',
        '{"a": ":", "b": 1,}',
        "[" * (JSON_DEPTH.value + 1) + "]" * (JSON_DEPTH.value + 1),
        '{"a": 1, "b":' * JSON_DEPTH.value + "[]" + "}" * JSON_DEPTH.value,
    ],
)
def test_what_has_two_meanings_or_none_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        strict_json(text.encode())


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x:y", "b": {"a": ":", "c": ["::", {"a": None}]}},
        {"at": "2026-01-01T00:00:00Z", "of": [1.5, True, []]},
        [[]] * 200,
        {str(number): {"a": number} for number in range(200)},
        ":",
    ],
)
def test_what_has_one_meaning_is_read(value: object) -> None:
    assert strict_json(json.dumps(value).encode()) == value
