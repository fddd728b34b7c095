"""What conditions are for documents and messages, and what queries answer."""

from typing import Any

import pytest

from hubkeep.query import (
    UNDEFINED,
    Groups,
    Path,
    Query,
    document_value,
    evaluator,
    holds,
    parse_condition,
    parse_query,
    projected,
)

TWIN: dict[str, Any] = {
    "deviceId": "press-07",
    "status": "enabled",
    "version": 4,
    "tags": {"hall": 3, "Site": "A", "none": None, "list": [1, {"x": 2}], "yes": True},
    "properties": {"reported": {"rpm": 20.5, "$version": 4}, "desired": {"$version": 4}},
}

CONDITIONS: dict[str, object] = {
    "DeviceID = 'press-07'": True,
    "deviceId = 'PRESS-07'": False,
    "tags.hall = 3 AND tags.Site = 'A'": True,
    "tags.site = 'A'": UNDEFINED,
    "tags.hall = '3'": UNDEFINED,
    "tags.hall != '3'": UNDEFINED,
    "NOT tags.absent = 1": UNDEFINED,
    "tags.absent != 1": UNDEFINED,
    "tags.none = null": True,
    "tags.hall = null": UNDEFINED,
    "tags.absent = null": UNDEFINED,
    "IS_DEFINED(tags.none)": True,
    "IS_DEFINED(tags.absent)": False,
    "NOT IS_DEFINED(tags.absent)": True,
    "tags.absent = 1 OR tags.yes": True,
    "tags.absent = 1 OR tags.hall = 4": UNDEFINED,
    "tags.absent = 1 AND tags.hall = 4": False,
    "tags.yes": True,
    "tags.hall": 3,
    "tags.list[1].x + 1 = tags.hall": True,
    "tags.list = tags.list": UNDEFINED,
    "tags.hall IN [1, 2, 3]": True,
    "tags.hall NIN [1, 2]": True,
    "tags.hall NOT IN [1, 2, 3]": False,
    "tags.absent IN [1]": UNDEFINED,
    "tags.hall % 2 = 1": True,
    "tags.hall / 0 = 1": UNDEFINED,
    "-tags.hall = -3": True,
    "tags.hall * 1e308 * 1e308 > 1": UNDEFINED,
    "STARTSWITH(deviceId, 'press') AND starts_with(deviceId, 'p') AND ENDSWITH(deviceId, '7')": True,
    "CONTAINS(tags.hall, '3')": UNDEFINED,
    "properties.Desired.$version = properties.reported.$version": True,
    "tags.yes = true": True,
    "tags.yes = 1": UNDEFINED,
    "tags.Site < 'B'": True,
    "tags.Site < null": UNDEFINED,
}


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions_of_queries(text: str) -> None:
    where = parse_query(f"SELECT * FROM devices WHERE {text}").where
    assert where is not None
    value = evaluator(where, document_value)(TWIN)
    assert (type(value), value) == (type(CONDITIONS[text]), CONDITIONS[text])
    assert holds(where, document_value)(TWIN) is (CONDITIONS[text] is True)


MESSAGE = {"level": "critical", "n": "12", "body": {"temp": 81, "none": None}, "twin": {"tags": {"hall": 3}}}


def message_value(path: Path, message: dict[str, Any]) -> object:
    if path.root == "property":
        return message.get(str(path.steps[0]).lower(), UNDEFINED)
    return document_value(path, message.get(path.root, {}))


ROUTING: dict[str, bool] = {
    "level = 'critical' AND $body.temp > 80": True,
    'LEVEL = "critical"': True,
    "$twin.tags.hall = 3 OR NOT IS_DEFINED($body.temp)": True,
    "as_number(n) >= 3": True,
    "as_number(level) >= 3": False,
    "$body.none = null": False,
    "is_null($body.none)": True,
    "$body.absent != 1": False,
    "SQUARE($body.temp) = 6561 AND SQRT(81) = 9 AND POWER(2, 10) = 1024 AND ABS(-1) = 1 AND SIGN(-5) = -1": True,
    "POWER(10, 1000) > 1": False,
    "SQRT(-1) = 1": False,
    "EXP(10000) > 1": False,
    "CEILING(1.2) = 2 AND FLOOR(1.8) = 1": True,
    "CONCAT('a', 'b', level) = 'abcritical' AND 'a' || 'b' = 'ab'": True,
    "LENGTH(level) = 8 AND UPPER(level) = 'CRITICAL' AND LOWER('A') = 'a'": True,
    "SUBSTRING(level, 2) = 'itical' AND SUBSTRING(level, 0, 3) = 'cri' AND INDEX_OF(level, 'x') = -1": True,
    "SUBSTRING(level, -1) = 'l'": False,
    "IS_STRING(level) AND IS_NUMBER($body.temp) AND IS_OBJECT($body.temp) = false AND IS_BOOL(true)": True,
    "IS_PRIMITIVE($body.temp) AND NOT IS_ARRAY($body.temp)": True,
}


@pytest.mark.parametrize("text", ROUTING)
def test_conditions_of_routes(text: str) -> None:
    assert holds(parse_condition(text), message_value, null_is_false=True)(MESSAGE) is ROUTING[text]


def test_an_empty_condition_holds() -> None:
    assert holds(parse_condition(""), message_value)(MESSAGE)


def test_projections_leave_out_what_is_undefined() -> None:
    query = parse_query("SELECT DEVICEID, tags.hall AS h, tags.absent, properties.reported.rpm FROM devices")
    assert projected(query)(TWIN) == {"deviceId": "press-07", "h": 3, "rpm": 20.5}
    assert projected(parse_query("SELECT * FROM devices"))(TWIN) == TWIN


def grouped(query: Query, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups = Groups(query)
    for document in documents:
        groups.add(document)
    return groups.rows()


def test_groups_and_aggregates() -> None:
    def twin(hall: Any, rpm: Any) -> dict[str, Any]:
        return {"tags": {} if hall is None else {"hall": hall}, "properties": {"reported": {"rpm": rpm}}}

    twins = [twin(1, 10), twin(True, 20), twin(1, 30), twin(None, "fast"), twin([1], 5)]
    text = (
        "SELECT tags.hall, COUNT() AS n, AVG(properties.reported.rpm), MIN(properties.reported.rpm) AS low FROM devices"
    )
    query = parse_query(f"{text} GROUP BY tags.hall")
    assert grouped(query, twins) == [
        {"hall": 1, "n": 2, "avg": 20.0, "low": 10},
        {"hall": True, "n": 1, "avg": 20.0, "low": 20},
        {"n": 1},
        {"hall": [1], "n": 1, "avg": 5.0, "low": 5},
    ]
    total = parse_query(
        "SELECT COUNT() AS n, SUM(properties.reported.rpm) AS s, MAX(properties.reported.rpm) FROM devices"
    )
    assert grouped(total, twins) == [{"n": 5, "s": 65, "max": 30}]
    assert grouped(total, []) == [{"n": 0}]
