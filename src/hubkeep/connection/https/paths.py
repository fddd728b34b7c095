"""Request targets: split before they are decoded, matched without regard to case. Source: service-protocols 2.1."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from hubkeep.errors import BadRequest, MethodNotAllowed, NotFound

_PARAMETERS: Final = 32

Handler = TypeVar("Handler")


class Target(NamedTuple):
    """path: what stands before the question mark, as sent. query: names in lower case, the first value of each."""

    path: str
    query: Mapping[str, str]


def split_target(raw: str) -> Target:
    """The request target as sent. Raises NotFound for what is no path, BadRequest for a query that is none."""
    if not raw.startswith("/"):
        # absolute form; the host in it counts as little as the Host header
        scheme, separator, rest = raw.partition("://")
        if not separator or scheme.lower() not in {"http", "https"}:
            raise NotFound(reason="the request target is no path").by("L-H5")
        raw = "/" + rest.partition("/")[2]
    path, _, query = raw.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PARAMETERS)
    except ValueError:
        raise BadRequest("The query is not valid.").by("L-H5") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        values.setdefault(name.lower(), value)
    return Target(path, values)


def segments_of(path: str) -> tuple[str, ...]:
    """The segments of a path, each decoded exactly once; a trailing slash is passed over.

    Raises NotFound for paths that could mean another place: empty and dotted segments, backslashes, control characters.
    """
    raw = path[1:].removesuffix("/").split("/")
    segments = tuple(_decoded(segment) for segment in raw)
    if segments == ("",):
        return ()
    for segment in segments:
        if segment in {"", ".", ".."} or "\\" in segment or not segment.isprintable():
            raise NotFound(reason="the path has a segment that no address has").by("L-H5")
    return segments


def with_slashes_decoded(path: str) -> str:
    """``/devices%2Fpress-07`` as ``/devices/press-07``: for clients that encode the whole path."""
    return path.replace("%2F", "/").replace("%2f", "/")


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise NotFound(reason="a segment of the path is not UTF-8").by("L-H5") from None


class Match(NamedTuple, Generic[Handler]):
    """segments: literals in lower case, values as decoded. values: by the name in the pattern."""

    handler: Handler
    segments: tuple[str, ...]
    values: Mapping[str, str]


class Routes(Generic[Handler]):
    """Patterns like ``/devices/{id}`` to handlers by method. Literals go before values, whatever the order."""

    def __init__(self, routes: Iterable[tuple[str, str, Handler]]) -> None:
        """routes: method, pattern, handler."""
        self._by_length: dict[int, dict[tuple[str, ...], dict[str, Handler]]] = {}
        self._literals: dict[tuple[str, ...], tuple[tuple[int, str], ...]] = {}  # of each pattern, with their places
        for method, pattern, handler in routes:
            parts = tuple(pattern.strip("/").split("/"))
            self._by_length.setdefault(len(parts), {}).setdefault(parts, {})[method] = handler
            self._literals[parts] = tuple((at, part) for at, part in enumerate(parts) if not part.startswith("{"))
        for length, patterns in self._by_length.items():
            in_order = sorted(patterns.items(), key=lambda item: [part.startswith("{") for part in item[0]])
            self._by_length[length] = dict(in_order)

    def find(self, method: str, path: str) -> Match[Handler]:
        """Raises NotFound, MethodNotAllowed. A path that has no route is tried again with its ``%2F`` decoded."""
        segments = segments_of(path)
        found = self._matching(segments)
        if not found and (decoded := with_slashes_decoded(path)) != path:
            segments = segments_of(decoded)
            found = self._matching(segments)
        for parts, handlers in found:
            if (handler := handlers.get(method)) is not None:
                return _match(handler, parts, segments)
        if found:
            raise MethodNotAllowed(reason=f"{method} is not for this address").by("L-H5")
        raise NotFound(reason="no operation has this address").by("L-H5")

    def methods(self, path: str) -> Sequence[str]:
        """What an address answers to, for the Allow header."""
        try:
            return sorted({method for _, handlers in self._matching(segments_of(path)) for method in handlers})
        except NotFound:
            return ()

    def _matching(self, segments: tuple[str, ...]) -> list[tuple[tuple[str, ...], dict[str, Handler]]]:
        lower = [segment.lower() for segment in segments]
        found = []
        for parts, handlers in self._by_length.get(len(segments), {}).items():
            for at, literal in self._literals[parts]:
                if lower[at] != literal:
                    break
            else:
                found.append((parts, handlers))
        return found


def _match(handler: Handler, parts: Sequence[str], segments: Sequence[str]) -> Match[Handler]:
    pairs = list(zip(parts, segments, strict=True))
    return Match(
        handler,
        tuple(segment if part.startswith("{") else part for part, segment in pairs),
        {part[1:-1]: segment for part, segment in pairs if part.startswith("{")},
    )
