"""Text to tree: the grammar, its faults with their places, and the bounds."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubkeep.errors import QueryInvalid
from hubkeep.query import (
    UNDEFINED,
    Call,
    Infix,
    Junction,
    Literal,
    Membership,
    Path,
    Prefix,
    parse_condition,
    parse_query,
)

SENT_BY_CLIENTS = [
    "SELECT * FROM devices",
    "select * from devices where capabilities.iotEdge = true",
    "SELECT * FROM devices WHERE (STARTSWITH(devices.deviceId, 'press'))",
    "SELECT deviceId, deviceScope FROM devices",
    "select * from devices.modules where devices.deviceId = 'press-07'",
    "SELECT * FROM devices WHERE deviceId in ['press-07','press-08']",
    "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'reboot-night' AND devices.jobs.status = 'completed'",
    "SELECT properties.reported.fw AS fw, COUNT() AS n FROM devices GROUP BY properties.reported.fw",
    "SELECT deviceId FROM devices WHERE configurations.[[tune-hall3]].status='Applied'",
    "select deviceId from devices.modules where moduleId = '$edgeAgent' and tags.a = properties.reported.$version",
    "/* edge devices */ SELECT TOP 5 * FROM devices",
]
WRONG = {
    "": (1, "SELECT"),
    "SELECT * FROM": (14, "a name"),
    "SELECT * FROM c": (15, "collection"),
    "SELECT * FROM devices WHERE": (28, "a name"),
    "SELECT * FROM devices WHERE deviceId IN ('a')": (41, "square brackets"),
    "SELECT * FROM devices ORDER BY deviceId": (23, "the end of the query"),
    "SELECT DISTINCT status FROM devices": (8, "a name"),
    "SELECT * FROM devices WHERE LENGTH(deviceId) = 3": (29, "no function"),
    "SELECT * FROM devices WHERE STARTSWITH(deviceId)": (29, "2 arguments"),
    "SELECT * FROM devices WHERE deviceId = 'x": (40, "does not end"),
    "SELECT * FROM devices WHERE a # b": (31, "means nothing"),
    "SELECT deviceId FROM devices.jobs": (1, "only *"),
    "SELECT deviceId, COUNT() FROM devices": (1, "neither grouped"),
    "SELECT * FROM devices GROUP BY status": (1, "cannot be grouped"),
    "SELECT * FROM devices WHERE a = 123456789012345678901234567890": (33, "digits"),
    "SELECT TOP x * FROM devices": (12, "whole number"),
    "SELECT a b FROM devices": (10, "FROM"),
}


@pytest.mark.parametrize("text", SENT_BY_CLIENTS)
def test_what_clients_send_is_read(text: str) -> None:
    parse_query(text)


@pytest.mark.parametrize("text", WRONG)
def test_a_fault_is_told_with_its_place(text: str) -> None:
    place, reason = WRONG[text]
    with pytest.raises(QueryInvalid) as caught:
        parse_query(text)
    assert f"at character {place}:" in str(caught.value)
    assert reason in str(caught.value)


def test_built_in_names_have_one_spelling_and_keys_keep_theirs() -> None:
    query = parse_query(
        "SELECT DEVICEID, Tags.Hall, PROPERTIES.Reported.RPM AS r FROM devices WHERE devices.Status = 'x'"
    )
    assert [(item.what, item.key) for item in query.items] == [
        (Path(("deviceId",)), "deviceId"),
        (Path(("tags", "Hall")), "Hall"),
        (Path(("properties", "reported", "RPM")), "r"),
    ]
    assert query.where == Infix("=", Path(("status",)), Literal("x"))


def test_operators_bind_as_in_the_grammar() -> None:
    assert parse_query("SELECT * FROM devices WHERE NOT tags.a = 1 + 2 * -x AND tags.b NOT IN [1, 'y'] OR c").where == (
        Junction(
            "OR",
            (
                Junction(
                    "AND",
                    (
                        Prefix(
                            "NOT",
                            Infix(
                                "=",
                                Path(("tags", "a")),
                                Infix("+", Literal(1), Infix("*", Literal(2), Prefix("-", Path(("x",))))),
                            ),
                        ),
                        Membership(Path(("tags", "b")), (Literal(1), Literal("y")), True),
                    ),
                ),
                Path(("c",)),
            ),
        )
    )


def test_literals() -> None:
    values = r"""['it\'s', "a\u00e9\\", 0x1F, 1.5e3, .5, true, FALSE, null, undefined]"""
    where = parse_query(f"SELECT * FROM devices WHERE x IN {values}").where
    assert isinstance(where, Membership)
    assert [each.value for each in where.among if isinstance(each, Literal)] == [
        "it's", "aé\\", 31, 1500.0, 0.5, True, False, None, UNDEFINED,
    ]  # fmt: skip


def test_the_references_of_routing() -> None:
    where = parse_condition(
        "level = 'x' AND $dt-subject = 'y' AND $body.a[0].b > 1 AND $twin.tags.x < 2 AND $[[odd name]] = '' "
        "AND as_number(retries) >= 3"
    )
    assert isinstance(where, Junction)
    lefts = [each.left for each in where.operands if isinstance(each, Infix)]
    assert lefts == [
        Path(("level",), "property"),
        Path(("dt-subject",), "system"),
        Path(("a", 0, "b"), "body"),
        Path(("tags", "x"), "twin"),
        Path(("odd name",), "system"),
        Call("AS_NUMBER", (Path(("retries",), "property"),)),
    ]
    assert parse_condition("  ") is None
    for wrong in ("$body[0] = 1", "$body = 1", "level.x = 1", "STARTSWITH(a, 'b')", "true true"):
        with pytest.raises(QueryInvalid):
            parse_condition(wrong)


@pytest.mark.parametrize(
    "text", ["(" * 17 + "1", "NOT " * 17 + "a", "-" * 17 + "a", "CONTAINS(" * 17, "[[" * 17, "a IN [" * 17]
)
def test_nesting_is_bounded(text: str) -> None:
    with pytest.raises(QueryInvalid):
        parse_query("SELECT * FROM devices WHERE " + text)


def test_long_rows_are_no_deep_trees() -> None:
    where = "SELECT * FROM devices WHERE "
    parse_query(where + " AND ".join(["a"] * 1300))
    parse_query(where + " OR ".join(["a = 1"] * 800))
    with pytest.raises(QueryInvalid, match="in a row"):
        parse_query(where + "+".join(["1"] * 1000))


WORDS = [
    "SELECT",
    "*",
    "FROM",
    "devices",
    "WHERE",
    "a",
    ".",
    "$body",
    "(",
    ")",
    "[",
    "]",
    "[[x]]",
    "'s'",
    "1",
    "=",
    "-",
    "NOT",
    "IN",
    ",",
    "AND",
    "COUNT",
    "GROUP",
    "BY",
    "AS",
    "TOP",
    "null",
    "0x",
    "||",
    "/*",
    "\\",
]


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(WORDS),
            max_size=30,
        ).map(" ".join),
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_query, parse_condition):
        try:
            parse(text)
        except QueryInvalid as error:
            assert "character" in str(error)  # noqa: PT017  # most texts are refused


@pytest.mark.parametrize(
    "text", ["'" + "\\" * 8000, "[" * 8000, "/*" + "*" * 8000, "a." * 4000, "x" * 8000, "$" * 8000]
)
def test_work_is_linear(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(QueryInvalid):
        parse_query("SELECT * FROM devices WHERE " + text + " '")
    assert time.monotonic() - started < 2
