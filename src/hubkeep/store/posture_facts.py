"""The facts of the posture report that the registry's file holds: aggregates, each in one statement.

Read on a thread and a read-only connection of its own, in one transaction: of one moment, and beside what the hub does.
Statements let the interpreter go while they run, so a scan of a million rows keeps nobody waiting.
"""
# ruff: noqa: S608  # statements are our own words; what is asked for is bound

import asyncio
import contextlib
import datetime as dt
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hubkeep.errors import StoreUnavailable
from hubkeep.limits import POSTURE_GROUPS, POSTURE_NAMES
from hubkeep.model import FirmwareVersion, FleetFacts, KeyFacts, Named, PolicyUse, PostureTimes, Together
from hubkeep.ports import Seal

from .posture_keys import key_facts
from .posture_watch import NAMED as _WATCHED
from .posture_watch import watched

# generation ids count 100 ns since year 1: when an identity was made
_MADE: Final = "((CAST(i.generation_id AS INTEGER) - 621355968000000000) / 10000000.0)"
_NAME: Final = "i.device_id || CASE i.module_id WHEN '' THEN '' ELSE '/' || i.module_id END"
_OWNER: Final = "u.device_id || CASE u.module_id WHEN '' THEN '' ELSE '/' || u.module_id END"
_USER: Final = f"CASE u.device_id WHEN '' THEN 'policy ' || u.policy ELSE {_OWNER} END"
_SAME: Final = "u.device_id = i.device_id AND u.module_id = i.module_id"
_ON: Final = "i.status = 'enabled'"
_ACTIVE: Final = f"{_ON} AND (i.last_activity >= :recent OR i.connected)"
_TRUST: Final = "properties.reported.hubkeep.trust.version"
# Of identities alone: counted in one pass.
_FLAGS: Final[Mapping[str, str]] = {
    "identities": _ON,
    "devices": f"{_ON} AND i.module_id = ''",
    "active": _ACTIVE,
    "by_sas": f"{_ACTIVE} AND i.authentication = 'sas'",
    "thumbprints": f"{_ON} AND i.authentication = 'selfSigned'",
    "sha1_thumbprints": f"{_ON} AND i.authentication = 'selfSigned' AND "
    "(length(i.primary_thumbprint) = 40 OR length(i.secondary_thumbprint) = 40)",
    "never_here": f"{_ON} AND i.last_activity = 0 AND NOT i.connected AND {_MADE} < :unseen",
    "silent": f"{_ON} AND i.last_activity > 0 AND i.last_activity < :silent AND NOT i.connected",
    "unsealed": "(i.primary_key IS NOT NULL AND substr(i.primary_key, 1, 1) <> x'01') OR "
    "(i.secondary_key IS NOT NULL AND substr(i.secondary_key, 1, 1) <> x'01')",
}
_COUNTS_ONLY: Final = frozenset({"identities", "devices", "active", "thumbprints", "unsealed"})
_DISABLED_ENROLMENT: Final = """
    SELECT {name} FROM enrolment e
    JOIN provisioned p ON p.is_group = e.is_group AND p.enrolment_key = e.key
    JOIN identity i ON i.device_id = p.device_id AND i.module_id = ''
    WHERE {which}
    UNION
    SELECT {name} FROM enrolment e JOIN identity i ON i.device_id = e.id AND i.module_id = ''
    WHERE NOT e.is_group AND {which}
"""
# Of several tables: the names, each once.
_NAMED: Final[Mapping[str, str]] = {
    "old_keys": f"""
        SELECT {_NAME} FROM identity i
        LEFT JOIN credential_use a ON a.policy = '' AND a.device_id = i.device_id AND a.module_id = i.module_id
            AND a.slot = 'primary'
        LEFT JOIN credential_use b ON b.policy = '' AND b.device_id = i.device_id AND b.module_id = i.module_id
            AND b.slot = 'secondary'
        WHERE {_ON} AND i.authentication = 'sas' AND {_MADE} < :old_key AND
            (coalesce(a.created, 0) < :old_key OR coalesce(b.created, 0) < :old_key)""",
    "long_tokens": f"""
        SELECT DISTINCT {_USER} FROM credential_use u
        WHERE u.last_used >= :recent AND u.token_seconds > :token_seconds AND u.token_seconds <= :pasted_seconds""",
    "pasted_tokens": f"""
        SELECT DISTINCT {_USER} FROM credential_use u
        WHERE u.last_used >= :recent AND u.token_seconds > :pasted_seconds""",
    "ending_certificates": f"""
        SELECT {_NAME} FROM identity i JOIN (
            SELECT device_id, module_id, not_before, max(not_after) AS ends FROM issued_certificate
            WHERE revoked = 0 GROUP BY device_id, module_id
        ) u ON {_SAME}
        WHERE {_ACTIVE} AND u.ends - :now < 0.2 * (u.ends - u.not_before)""",
    "failed_renewals": f"""
        SELECT DISTINCT r.identity FROM refusal r
        JOIN identity i ON r.identity = {_NAME} AND {_ON}
        WHERE r.time >= :recent AND r.operation LIKE 'est/simplereenroll%'""",
    "lone_thumbprints": f"""
        SELECT {_NAME} FROM identity i JOIN credential_use u ON u.policy = '' AND {_SAME} AND u.slot = 'primary'
        WHERE {_ON} AND i.authentication = 'selfSigned' AND i.secondary_thumbprint IS NULL
            AND u.certificate_ends > 0 AND u.certificate_ends < :ending""",
    "unfinished_rollovers": f"""
        SELECT DISTINCT {_USER} FROM credential_use n
        JOIN credential_use u ON u.policy = '' AND u.device_id = n.device_id AND u.module_id = n.module_id
            AND u.slot <> n.slot AND u.slot <> 'authority'
        WHERE n.policy = '' AND n.slot <> 'authority' AND n.created > :old_key AND u.created < n.created
            AND u.last_used > n.created + :overdue_seconds AND u.last_used > n.last_used""",
    "rollovers": """
        SELECT DISTINCT device_id || '/' || module_id FROM credential_use
        WHERE policy = '' AND device_id <> '' AND slot <> 'authority' AND created > :old_key""",
    "onboarding": f"""
        SELECT DISTINCT {_NAME} FROM issued_certificate c
        JOIN identity i ON i.device_id = c.device_id AND i.module_id = c.module_id
        JOIN credential_use u ON u.policy = '' AND {_SAME} AND u.slot <> 'authority'
        WHERE {_ON} AND c.revoked = 0 AND c.superseded = 0 AND c.not_after > :now
            AND u.last_used > c.issued + 86400 AND u.last_used > c.last_used""",
    "issued": """
        SELECT DISTINCT device_id || '/' || module_id FROM issued_certificate WHERE revoked = 0 AND not_after > :now""",
    "half_blocked": _DISABLED_ENROLMENT.format(name=_NAME, which="e.status = 'disabled' AND i.status = 'enabled'"),
    # that a group is enabled lets no disabled identity in again
    "half_open": _DISABLED_ENROLMENT.format(
        name=_NAME, which="NOT e.is_group AND e.status = 'enabled' AND i.status = 'disabled'"
    ),
    "old_tls": f"""
        SELECT DISTINCT {_USER} FROM credential_use u WHERE u.old_tls <> '' AND u.old_tls_used >= :recent""",
    "unproved": f"""
        SELECT i.device_id FROM identity i WHERE {_ON} AND i.module_id = '' AND :root <> '' AND NOT EXISTS
            (SELECT 1 FROM trust_proof t WHERE t.device_id = i.device_id AND t.root = :root)""",
    "behind_on_trust": f"""
        SELECT device_id FROM twin_leaf
        WHERE path = '{_TRUST}' AND module_id = '' AND CAST(substr(value, 2) AS REAL) < :bundle""",
    "reporting_trust": f"SELECT device_id FROM twin_leaf WHERE path = '{_TRUST}' AND module_id = ''",
    "ownerless": f"""
        SELECT {_NAME} FROM identity i
        WHERE {_ON} AND i.module_id = '' AND NOT EXISTS (SELECT 1 FROM provisioned p WHERE p.device_id = i.device_id)
            AND i.device_id NOT IN (SELECT device_id FROM twin_leaf WHERE path = :owner_path AND module_id = '')""",
}
_NUMBERS: Final = ("issued", "rollovers", "reporting_trust")
# Of several tables: what some have in common, how many these are, and their names as a JSON array.
_TOGETHER: Final[Mapping[str, str]] = {
    "by_policy": f"""
        SELECT u.policy AS what, {_USER} AS name FROM credential_use u
        WHERE u.policy <> '' AND u.device_id <> '' AND u.last_used >= :recent""",
    "agents": f"""
        SELECT u.client AS what, {_USER} AS name FROM credential_use u
        WHERE u.device_id <> '' AND u.client <> '' AND u.last_used >= :recent""",
    "shared_thumbprints": f"""
        SELECT 'thumbprint ' || substr(i.primary_thumbprint, 1, 16) AS what, {_NAME} AS name FROM identity i
        WHERE i.primary_thumbprint IS NOT NULL
        UNION SELECT 'thumbprint ' || substr(i.secondary_thumbprint, 1, 16), {_NAME} FROM identity i
        WHERE i.secondary_thumbprint IS NOT NULL""",
    "shared_public_keys": f"""
        SELECT 'public key ' || substr(u.key_sha256, 1, 16) AS what, {_OWNER} AS name
        FROM issued_certificate u WHERE u.revoked = 0 AND u.not_after > :now""",
}
# a key that was there before its making was noted is as old as the hub
_POLICIES: Final = """
    SELECT policy,
        CASE sum(device_id = '' AND created > 0) WHEN 2 THEN min(CASE device_id WHEN '' THEN created END) ELSE 0 END,
        max(last_used) FROM credential_use WHERE policy <> '' GROUP BY policy
"""
_SWITCHES: Final = """
    SELECT CASE WHEN old_tls LIKE 'TLSv1.2%' THEN 'tls.compat_suites' ELSE 'tls.old_versions' END, max(old_tls_used)
    FROM credential_use WHERE old_tls <> '' GROUP BY 1
"""
# of a hundred devices: a version is reported when it is installed, by the first of them and by the last
_FIRST_SEEN: Final = """
    SELECT min(seen) FROM (
        SELECT json_extract(t.reported_metadata, ?) AS seen FROM twin_leaf l
        JOIN twin t ON t.device_id = l.device_id AND t.module_id = ''
        WHERE l.path = ? AND l.value = ? AND l.module_id = '' LIMIT 100
    )
"""
_OF_SEVERAL: Final = frozenset({"shared_thumbprints", "shared_public_keys"})


class RegistryPosture:
    """See ports.FleetPosture. seal: None where the sealing key is not at hand."""

    def __init__(self, registry: Path, seal: Seal | None) -> None:
        self._registry, self._seal = registry.absolute(), seal

    async def fleet(self, times: PostureTimes) -> FleetFacts:
        return await asyncio.to_thread(self.fleet_now, times)

    async def keys(self) -> KeyFacts | None:
        return await asyncio.to_thread(self.keys_now)

    def fleet_now(self, times: PostureTimes) -> FleetFacts:
        """The same on this thread. Raises StoreUnavailable."""
        with _opened(self._registry) as connection:
            return _Facts(connection, times).all()

    def keys_now(self) -> KeyFacts | None:
        """The same on this thread. Raises StoreUnavailable."""
        if self._seal is None:
            return None
        with _opened(self._registry) as connection:
            return key_facts(connection, self._seal)


@contextlib.contextmanager
def _opened(registry: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"{registry.as_uri()}?mode=ro", uri=True, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        remedy = "start the hub once with this version" if "no such" in str(error) else "check the disk"
        raise StoreUnavailable(reason=f"the posture of {registry} cannot be read: {error}", remedy=remedy) from None


def _seconds(stamp: str | None) -> float:
    """Unix seconds of a time in a twin's metadata; 0: none, or none that can be read."""
    try:
        return dt.datetime.fromisoformat(f"{(stamp or '')[:19]}+00:00").timestamp()
    except ValueError:
        return 0.0


class _Facts:
    """One reading. Statements are our own words throughout; what is asked for is bound."""

    def __init__(self, connection: sqlite3.Connection, times: PostureTimes) -> None:
        self._connection = connection
        self._times = {name: getattr(times, name) for name in times.__struct_fields__}

    def all(self) -> FleetFacts:
        values: dict[str, Any] = self._flags()
        for name, query in _NAMED.items():
            if name in _NUMBERS:
                values[name] = self._count(query)
            else:
                values[name] = self._named(query)
        for name, query in _TOGETHER.items():
            values[name] = self._together(query, 2 if name in _OF_SEVERAL else 1)
        values["policies"] = tuple(PolicyUse(*row) for row in self._rows(_POLICIES))
        values |= {name: self._named(query) for name, query in _WATCHED.items()}
        values |= watched(self._connection, self._times, _MADE)
        values["switch_uses"] = dict(self._rows(_SWITCHES))
        values["firmware"] = self._firmware()
        values["without_firmware"] = self._named(
            f"SELECT {_NAME} FROM identity i WHERE {_ON} AND i.module_id = '' AND i.device_id NOT IN "
            "(SELECT device_id FROM twin_leaf WHERE path = :firmware_path AND module_id = '')"
        )
        return FleetFacts(**values)

    def _flags(self) -> dict[str, Any]:
        sums = ", ".join(f"coalesce(sum({condition}), 0)" for condition in _FLAGS.values())
        (row,) = self._rows(f"SELECT {sums} FROM identity i")
        counts = dict(zip(_FLAGS, row, strict=True))
        return {name: count if name in _COUNTS_ONLY else self._names_of(name, count) for name, count in counts.items()}

    def _names_of(self, flag: str, count: int) -> Named:
        if not count:
            return Named()
        rows = self._rows(f"SELECT {_NAME} FROM identity i WHERE {_FLAGS[flag]} LIMIT {POSTURE_NAMES.value}")
        return Named(count, tuple(name for (name,) in rows))

    def _count(self, query: str) -> int:
        ((count,),) = self._rows(f"SELECT count(*) FROM ({query})")
        return int(count)

    def _named(self, query: str) -> Named:
        count = self._count(query)
        names = self._rows(f"{query} LIMIT {POSTURE_NAMES.value}") if count else ()
        return Named(count, tuple(name for (name,) in names))

    def _together(self, query: str, least: int) -> tuple[Together, ...]:
        """The largest first."""
        groups = self._rows(
            f"SELECT what, count(DISTINCT name) AS number, min(name), max(name) FROM ({query}) GROUP BY what "
            f"HAVING number >= {least} ORDER BY number DESC, what LIMIT {POSTURE_GROUPS.value}"
        )
        return tuple(
            Together(str(what), number, tuple(dict.fromkeys((first, last)))) for what, number, first, last in groups
        )

    def _firmware(self) -> tuple[FirmwareVersion, ...]:
        """By how many devices report it. When a version was first seen is asked of a hundred of these."""
        versions = self._rows(
            "SELECT value, count(*), min(device_id), max(device_id) FROM twin_leaf "
            "WHERE path = :firmware_path AND module_id = '' GROUP BY value ORDER BY 2 DESC "
            f"LIMIT {POSTURE_GROUPS.value}"
        )
        member = "$." + ".".join(f'"{each}"' for each in str(self._times["firmware_path"]).split(".")[2:])
        found = []
        for value, number, first, last in versions:
            asked = (f'{member}."$lastUpdated"', self._times["firmware_path"], value)
            ((seen,),) = self._connection.execute(_FIRST_SEEN, asked).fetchall()
            found.append(FirmwareVersion(value[1:], number, _seconds(seen), tuple(dict.fromkeys((first, last)))))
        return tuple(found)

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, self._times).fetchall()
