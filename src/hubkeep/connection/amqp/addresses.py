"""Link addresses, paths or whole URIs in any case, to their meaning (device-protocols 4.5, service-protocols 4, 5)."""

import re
from typing import Any, Final, NamedTuple

from hubkeep.errors import InvalidFilter
from hubkeep.wire.amqp import Described
from hubkeep.wire.sas import percent_decoded

_FILTER: Final = "apache.org:selector-filter:string"
_FILTER_CODE: Final = 77_567_109_365_764
_SELECTOR: Final = re.compile(r"\s*amqp\.annotation\.([\w-]{1,40})\s*(>=|>)\s*(?:'([^']{0,40})'|([^\s']{1,40}))\s*")
_KINDS: Final = {
    "x-opt-offset": "offset",
    "x-opt-sequence-number": "sequence",
    "x-opt-enqueued-time": "time",
    "x-opt-enqueuedtimeutc": "time",
}


def segments(address: str) -> tuple[str, ...]:
    """The path's segments, not decoded; scheme and authority of a full URI are dropped, and a leading slash."""
    _, separator, rest = address.partition("://")
    if separator:
        address = rest.partition("/")[2]
    return tuple(address.strip("/").split("/")) if address.strip("/") else ()


class DeviceAddress(NamedTuple):
    """feature: ``messages/events``, ``twin`` and so on, lower case. Ids are decoded once."""

    device_id: str
    module_id: str
    feature: str

    @property
    def path(self) -> tuple[str, ...]:
        module = ("modules", self.module_id) if self.module_id else ()
        return ("devices", self.device_id, *module)

    def decoded_again(self) -> "DeviceAddress":
        """As clients mean it that encode ids twice (D-N15)."""
        return DeviceAddress(percent_decoded(self.device_id), percent_decoded(self.module_id), self.feature)


def device_address(path: tuple[str, ...]) -> DeviceAddress | None:
    """An address below ``/devices/{id}``; None for another."""
    if len(path) < 3 or path[0].lower() != "devices":
        return None
    device_id, module_id, rest = percent_decoded(path[1]), "", path[2:]
    if len(path) > 4 and path[2].lower() == "modules":
        module_id, rest = percent_decoded(path[3]), path[4:]
    return DeviceAddress(device_id, module_id, "/".join(rest).lower())


class ReaderAddress(NamedTuple):
    consumer_group: str
    partition: str


def reader_address(path: tuple[str, ...]) -> ReaderAddress | None:
    """``ConsumerGroups/{group}/Partitions/{n}`` behind the entity; None for another."""
    if len(path) == 4 and path[0].lower() == "consumergroups" and path[2].lower() == "partitions":
        return ReaderAddress(percent_decoded(path[1]), path[3])
    return None


class Position(NamedTuple):
    """Where a reader begins. kind: offset, sequence or time. value: ``@latest`` stands as None with kind offset."""

    kind: str
    value: int | None
    inclusive: bool


def position(filters: dict[Any, Any]) -> Position:
    """The start that a reader's filter asks for; none at all means from the oldest (5.5). Raises InvalidFilter."""
    if not filters:
        return Position("offset", -1, inclusive=False)
    chosen = filters.get(_FILTER)
    if isinstance(chosen, Described):
        if chosen.descriptor not in {_FILTER, _FILTER_CODE}:
            raise InvalidFilter("The filter is of an unknown kind.")
        chosen = chosen.value
    if not isinstance(chosen, str):
        raise InvalidFilter("The filter is of an unknown kind.")
    found = _SELECTOR.fullmatch(chosen)
    kind = _KINDS.get(found[1]) if found else None
    if found is None or kind is None:
        raise InvalidFilter(
            "The selector is not one comparison of a known annotation.", reason=f"selector {chosen[:200]!r}"
        )
    text = found[3] if found[3] is not None else found[4]
    inclusive = found[2] == ">="
    if kind == "offset" and text.lower() == "@latest":
        return Position("offset", None, inclusive)
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII):
        raise InvalidFilter("The selector compares with no number.", reason=f"selector {chosen[:200]!r}")
    return Position(kind, int(text), inclusive)


def identity_name(path: tuple[str, ...]) -> str:
    """The device or module whose path this is or lies below, as people write it; empty for any other path."""
    if path[:1] != ("devices",) or len(path) < 2:
        return ""
    return f"{path[1]}/{path[3]}" if path[2:3] == ("modules",) and len(path) > 3 else path[1]
