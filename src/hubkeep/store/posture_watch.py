"""Facts of the posture report about what happened: log-ins, refusals, growth; and likely secrets in twins."""
# ruff: noqa: S608  # statements are our own words; what is asked for is bound

import re
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from hubkeep.limits import POSTURE_GROUPS, POSTURE_NAMES
from hubkeep.model import Burst, GroupGrowth, Named, Registration, Together

_MS_DAY: Final = 86_400_000
_SOURCE: Final = "rtrim(rtrim(peer, '0123456789'), ':')"  # address:port without the port
_PATHS: Final = 10_000
_DECODED: Final = 10_000  # registrations under disabled enrolments
_FAILED: Final = 20  # a day, below which nothing is a burst: what shuts a source out for a minute
_TIMES: Final = 10
_CHANGES: Final = 5  # of address within an hour
_BARRED: Final = (
    "device-disabled",
    "device-blocked",
    "device-expired",
    "identity-deleted",
    "certificate-denied",
    "certificate-generation",
    "certificate-crl-revoked",
    "certificate-ocsp-revoked",
)
NAMED: Final[Mapping[str, str]] = {
    "ownership_conflicts": """
        SELECT DISTINCT identity FROM refusal
        WHERE time >= :recent AND operation = 'registrations/register' AND cause = 'identity-of-another'""",
    # an id that was never here is somebody's guess; one that was deleted is somebody's device
    "barred": f"""
        SELECT DISTINCT identity FROM refusal WHERE time >= :recent AND identity <> '' AND (
            cause IN ({", ".join(f"'{each}'" for each in _BARRED)}) OR
            cause = 'identity-unknown' AND identity IN
            (SELECT target FROM audit WHERE chain = 'changes' AND operation = 'devices/delete' AND outcome = '204'))""",
}
_ALTERNATING: Final = f"""
    WITH seen AS (
        SELECT actor, time, {_SOURCE} AS source, lag({_SOURCE}) OVER (PARTITION BY actor ORDER BY number) AS before
        FROM audit WHERE chain = 'logins' AND time >= :day AND actor NOT LIKE 'policy %'
    )
    SELECT actor, max(turns), min(one), max(other) FROM (
        SELECT actor, sum(source <> before) AS turns, min(source) AS one, max(source) AS other
        FROM seen GROUP BY actor, time / 3600000 HAVING turns > {_CHANGES}
    ) GROUP BY actor ORDER BY 2 DESC LIMIT {POSTURE_GROUPS.value}
"""
_FAILURES: Final = f"""
    SELECT {_SOURCE} AS source, (:now_ms - time) / {_MS_DAY} AS age, count(*) FROM audit
    WHERE chain = 'refusals' AND time > :now_ms - 8 * {_MS_DAY} AND outcome LIKE '401%' AND peer <> ''
    GROUP BY source, age
"""
_GROWTH: Final = """
    SELECT coalesce(e.id, p.enrolment_key), sum({made} >= :now - 86400),
        sum({made} < :now - 86400 AND {made} >= :now - 31 * 86400) / 30.0
    FROM provisioned p JOIN identity i ON i.device_id = p.device_id AND i.module_id = ''
    LEFT JOIN enrolment e ON e.is_group AND e.key = p.enrolment_key
    WHERE p.is_group GROUP BY p.enrolment_key
"""
_UNDER_DISABLED: Final = f"""
    SELECT r.content FROM enrolment e
    JOIN registration r ON r.is_group = e.is_group AND r.enrolment_key = e.key
    WHERE e.status = 'disabled' LIMIT {_DECODED}
"""
_EVERY_PATH: Final = f"""
    WITH RECURSIVE paths(path) AS (
        SELECT min(path) FROM twin_leaf
        UNION ALL
        SELECT (SELECT min(path) FROM twin_leaf WHERE path > paths.path) FROM paths WHERE paths.path IS NOT NULL
    )
    SELECT path FROM paths WHERE path IS NOT NULL LIMIT {_PATHS}
"""
_HOLDERS: Final = """
    SELECT count(DISTINCT device_id), min(device_id), max(device_id) FROM twin_leaf
    WHERE path = ? AND value >= ? AND value < ? AND length(value) > ?
"""
_SECRET_NAME: Final = re.compile(
    r"(password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|connection[_-]?string)$",
    re.IGNORECASE,
)
# how values begin that are secrets whatever they are called; the index keeps their beginning
_SECRET_VALUES: Final = (
    "-----BEGIN",
    "HostName=",
    "Endpoint=sb://",
    "SharedAccessSignature ",
    "DefaultEndpointsProtocol=",
)
_LEAST: Final = 8  # characters of a value under such a name


def watched(connection: sqlite3.Connection, asked: Mapping[str, Any], made: str) -> dict[str, Any]:
    """Members of FleetFacts. made: an expression for when an identity ``i`` was made, in Unix seconds."""
    now_ms = int(asked["now"] * 1000)
    values = {**asked, "now_ms": now_ms, "day": now_ms - _MS_DAY}

    def rows(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query, values).fetchall()

    ((logins,),) = rows("SELECT count(*) FROM audit WHERE chain = 'logins' AND time >= :day")
    return {
        "logins_seen": logins,
        "alternating": tuple(
            Together(f"{turns} changes between {one} and {other}", 1, (actor,))
            for actor, turns, one, other in rows(_ALTERNATING)
        ),
        "bursts": tuple(_bursts(rows(_FAILURES))),
        "growth": tuple(GroupGrowth(*row) for row in rows(_GROWTH.format(made=made))),
        "disabled_registrations": _under_disabled(rows(_UNDER_DISABLED), asked["recent"]),
        "secret_paths": tuple(_secrets(connection)),
    }


def _bursts(counts: list[tuple[Any, ...]]) -> Iterator[Burst]:
    """The largest first. counts: source, days ago, failures."""
    days: dict[str, dict[int, int]] = defaultdict(dict)
    for source, age, number in counts:
        days[source][age] = number
    found = []
    for source, by_age in days.items():
        today, usual = by_age.get(0, 0), statistics.median(by_age.get(age, 0) for age in range(1, 8))
        if today >= _FAILED and today > _TIMES * usual:
            found.append(Burst(source, today, float(usual)))
    yield from sorted(found, key=lambda each: each.last_day, reverse=True)[: POSTURE_GROUPS.value]


def _under_disabled(rows: list[tuple[Any, ...]], recent: float) -> Named:
    names = []
    for (content,) in rows:
        record = msgspec.msgpack.decode(content, type=Registration)
        if record.status == "disabled" and record.updated >= recent:
            names.append(record.registration_id)
    return Named(len(names), tuple(names[: POSTURE_NAMES.value]))


def _secrets(connection: sqlite3.Connection) -> Iterator[Together]:
    for (path,) in connection.execute(_EVERY_PATH).fetchall():
        ranges = [(f"s{each}", f"s{each}\U0010ffff", 0) for each in _SECRET_VALUES]
        if _SECRET_NAME.search(path):
            ranges = [("s", "t", _LEAST)]
        for low, high, least in ranges:
            number, first, last = connection.execute(_HOLDERS, (path, low, high, least)).fetchone()
            if number:
                yield Together(path, number, tuple(dict.fromkeys((first, last))))
                break
