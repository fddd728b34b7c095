"""Queries of enrolments and registration records, and their pages. Source: provisioning-and-pki 2.3."""

import hmac
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from hubkeep.device.identities import status_from_text
from hubkeep.errors import BadRequest
from hubkeep.ports import EnrolmentCondition

from .bodies import json_as
from .exchange import Exchange
from .queries import CONTINUATION

# of this process: a query that a restart cuts short begins again
_KEY: Final = os.urandom(32)
_MAC_BYTES: Final = 16
_SELECT: Final = re.compile(
    r"\s*SELECT\s+\*(?:\s+FROM\s+(?:enrollments|enrollmentgroups|registrations|devices))?(?:\s+WHERE\s+(?P<where>.+?))?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_TERM: Final = re.compile(
    r"\s*(?P<name>registrationId|enrollmentGroupId|provisioningStatus)\s*=\s*(?P<quote>['\"])(?P<value>[^'\"]*)(?P=quote)\s*",
    re.IGNORECASE,
)
_AND: Final = re.compile(r"\sAND\s", re.IGNORECASE)
_CLAUSES: Final = "SELECT * with WHERE registrationId = '...', provisioningStatus = '...' and AND"


class EnrolmentQueryBody(msgspec.Struct):
    query: str = "SELECT *"


class Page(NamedTuple):
    """after: the id in lower case behind which the page begins."""

    query: str
    condition: EnrolmentCondition
    after: str


def asked(exchange: Exchange, body: bytes) -> Page:
    """Raises BadRequest."""
    query = json_as(EnrolmentQueryBody, body).query if body.strip() else EnrolmentQueryBody().query
    token = exchange.request.headers.get(CONTINUATION, "")
    return Page(query, _condition(query), _after(_bound(exchange, query), token) if token else "")


def next_page(exchange: Exchange, query: str, after: str) -> str:
    """A continuation that is good for this query alone."""
    content = after.encode()
    return urlsafe_b64encode(_mac(_bound(exchange, query), content) + content).decode()


def _condition(query: str) -> EnrolmentCondition:
    found = _SELECT.fullmatch(query)
    if found is None:
        raise BadRequest(f"The query cannot be read: {_CLAUSES} are known.")
    condition = EnrolmentCondition()
    for term in _AND.split(found["where"]) if found["where"] else ():
        parts = _TERM.fullmatch(term)
        if parts is None:
            raise BadRequest(f"The query cannot be read: {_CLAUSES} are known.")
        if parts["name"].lower() == "provisioningstatus":
            condition = condition._replace(status=status_from_text(parts["value"]))
        else:
            condition = condition._replace(id=parts["value"])
    return condition


def _bound(exchange: Exchange, query: str) -> bytes:
    """What a continuation belongs to."""
    return f"{exchange.operation}\n{exchange.values.get('group', '')}\n{query}".encode()


def _mac(bound: bytes, content: bytes) -> bytes:
    return hmac.digest(_KEY, sha256(bound).digest() + content, sha256)[:_MAC_BYTES]


def _after(bound: bytes, token: str) -> str:
    try:
        raw = urlsafe_b64decode(token.encode())
        mac, content = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        after = content.decode()
    except (ValueError, UnicodeError):
        raise BadRequest("The continuation cannot be read.") from None
    if not hmac.compare_digest(mac, _mac(bound, content)):
        raise BadRequest("The continuation is not one of this query.")
    return after
