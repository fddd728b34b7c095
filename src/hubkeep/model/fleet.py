"""What a query of the fleet narrows its search by: the part of a condition that a store can look up."""

from typing import Literal, NamedTuple

from .twin import Json, Twin

# identity: what the registry knows of it beside its ids
TwinPart = Literal["identity", "tags", "desired", "reported", "metadata"]
Primitive = str | int | float | bool
INDEXED_CHARACTERS = 64  # of a text; what is longer agrees in its beginning


class Narrowing(NamedTuple):
    """The value at ``path`` (``tags.hall``, ``deviceId``) is one of ``among``, or a text beginning with ``prefix``."""

    path: str
    among: tuple[Primitive, ...] = ()
    prefix: str = ""


def indexed(value: Primitive) -> str:
    """A key under which equal values meet; others may."""
    if isinstance(value, bool):
        return f"b{value:d}"
    if isinstance(value, str):
        return f"s{value[:INDEXED_CHARACTERS]}"
    return f"n{float(value)!r}"


def leaves(twin: Twin) -> set[tuple[str, str]]:
    """Path and key of every text, number and truth value in the twin; arrays are not looked into."""
    found: set[tuple[str, str]] = set()
    sections = ("tags", twin.tags), ("properties.desired", twin.desired.properties)
    for path, section in (*sections, ("properties.reported", twin.reported.properties)):
        _collect(path, section, found)
    return found


def _collect(path: str, section: Json, found: set[tuple[str, str]]) -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            _collect(f"{path}.{name}", value, found)
        elif isinstance(value, bool | int | float | str):
            found.add((f"{path}.{name}", indexed(value)))
