"""Which identities share a symmetric key, and which have a short one: every key is opened, and none is kept."""

import hmac
import os
import sqlite3
import time
from collections import Counter
from hashlib import sha256
from typing import Final

from hubkeep.errors import StoreUnavailable
from hubkeep.limits import KEY_BYTES_MIN, POSTURE_GROUPS, POSTURE_NAMES
from hubkeep.model import KeyFacts, Named, Together
from hubkeep.ports import Seal

from .identity_edits import identity_context

_KEYS: Final = """
    SELECT device_id, module_id, primary_key, secondary_key FROM identity
    WHERE authentication = 'sas' AND (primary_key IS NOT NULL OR secondary_key IS NOT NULL)
"""
_SLICE: Final = 16  # identities between two pauses: opening them holds the interpreter under a millisecond
_PAUSE: Final = 0.0002  # seconds; the hub's own thread gets its turn at once and not after a switch interval
_NAMES: Final = ("primary_key", "secondary_key")


def key_facts(connection: sqlite3.Connection, seal: Seal) -> KeyFacts:
    """At a million identities this takes a minute or two and 100 MB; the hub goes on meanwhile.

    Fingerprints are made under a key of this one call: they tell nothing, and compare with nothing outside it.
    """
    under = os.urandom(32)
    seen: dict[bytes, str] = {}
    shared: dict[bytes, list[str]] = {}
    counts: Counter[bytes] = Counter()
    short: list[str] = []
    examined = short_count = 0
    for device_id, module_id, *keys in connection.execute(_KEYS):
        examined += 1
        if examined % _SLICE == 0:
            time.sleep(_PAUSE)
        name = f"{device_id}/{module_id}" if module_id else device_id
        opened = set()
        for which, sealed in zip(_NAMES, keys, strict=True):
            if sealed is None:
                continue
            try:
                opened.add(seal.unseal(bytes(sealed), identity_context(device_id, module_id, which)))
            except StoreUnavailable:  # sealed under another key, or damaged: PC35 tells
                continue
        if any(len(key) < KEY_BYTES_MIN.value for key in opened):
            short_count += 1
            short += [name] if len(short) < POSTURE_NAMES.value else []
        for key in opened:  # a device's own two keys may be the same
            mark = hmac.digest(under, key, sha256)[:8]
            first = seen.setdefault(mark, name)
            if first is not name:
                of_mark = shared.setdefault(mark, [first])
                counts[mark] += 1
                if len(of_mark) < POSTURE_NAMES.value:
                    of_mark.append(name)
    groups = [Together(f"symmetric key {mark.hex()}", counts[mark] + 1, tuple(names)) for mark, names in shared.items()]
    groups.sort(key=lambda each: each.number, reverse=True)
    return KeyFacts(
        examined=examined,
        shared=tuple(groups[: POSTURE_GROUPS.value]),
        short=Named(short_count, tuple(short)),
    )
