"""Answers of a hub against the API's description: every one that the raw HTTPS peer reads is checked.

What the description does not know (an address, a method) is left to the tests that ask for it.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema_rs

from hubkeep.connection.https.api import openapi_document

_METHODS = frozenset({"get", "put", "post", "patch", "delete"})


class Told(NamedTuple):
    """An operation of the description, and what stood in the path."""

    operation: Mapping[str, Any]
    values: Mapping[str, str]


@functools.cache
def _document() -> Any:
    return json.loads(json.dumps(openapi_document()))


def resolved(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A reference followed."""
    while "$ref" in value:
        found = _document()
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


@functools.cache
def _routes() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """Literal parts go before values, as in the router."""
    paths = sorted(_document()["paths"].items(), key=lambda item: [part.startswith("{") for part in item[0].split("/")])
    routes = []
    for path, methods in paths:
        routes.append((re.compile("/".join(map(_pattern, path.split("/"))) + "/?"), methods))
    return routes


def _pattern(part: str) -> str:
    return f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else f"(?i:{re.escape(part)})"


def find(method: str, target: str) -> Told | None:
    """The operation at a request target; None where there is none."""
    path = target.partition("?")[0]
    for pattern, methods in _routes():
        if (found := pattern.fullmatch(path)) and method.lower() in methods:
            values = {name: unquote(value) for name, value in found.groupdict().items()}
            return Told(methods[method.lower()], values)
    return None


@functools.cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": _document()["components"]})


def schema_faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    validator = _validator(json.dumps(schema, sort_keys=True))
    return [f"{'/'.join(map(str, each.instance_path))}: {each.message[:300]}" for each in validator.iter_errors(value)]


def faults(method: str, target: str, status: int, headers: Mapping[str, str], content: bytes) -> list[str]:
    """Where an answer is not as it is described. headers: names in lower case."""
    told = find(method, target)
    if told is None:
        return []
    response = told.operation["responses"].get(str(status))
    if response is None:
        return [f"status {status} is not described: {content[:200]!r}"]
    response = resolved(response)
    found = []
    for name, reference in response.get("headers", {}).items():
        header = resolved(reference)
        if (value := headers.get(name.lower())) is not None:
            found += [f"header {name}: {each}" for each in schema_faults(header["schema"], value)]
        elif header.get("required"):
            found.append(f"the header {name} is missing")
    contents = response.get("content", {})
    media = headers.get("content-type", "").partition(";")[0]
    if not contents:
        return found + ([f"a body where none is described: {content[:200]!r}"] if content else [])
    if media not in contents:
        return [*found, f"the content type is {media!r}"]
    if "schema" in contents[media]:
        found += [f"body {each}" for each in schema_faults(contents[media]["schema"], json.loads(content))]
    return found


def check(method: str, target: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
    """Fails where an answer is not as it is described."""
    wrong = faults(method, target, status, headers, content)
    assert not wrong, f"{method} {target}: {status} is not as GET /openapi.json tells: {'; '.join(wrong)}"
