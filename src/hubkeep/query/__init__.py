"""The SQL-like languages: fleet queries, job queries and routing conditions. Text to tree to predicate; pure.

Start at ``parse_query`` or ``parse_condition``. Source: service-protocols 3.1 (queries) and 3.2 (routing conditions).
"""

from .evaluate import Resolve, evaluator, holds
from .parser import parse_condition, parse_query, parse_target
from .rows import JOB_ROOTS, TWIN_ROOTS, Groups, document_value, projected
from .tree import (
    Aggregate,
    Call,
    Expression,
    Infix,
    Item,
    Junction,
    Literal,
    Membership,
    Path,
    Prefix,
    Query,
    conjuncts,
    paths,
)
from .values import UNDEFINED, Value

__all__ = [
    "JOB_ROOTS",
    "TWIN_ROOTS",
    "UNDEFINED",
    "Aggregate",
    "Call",
    "Expression",
    "Groups",
    "Infix",
    "Item",
    "Junction",
    "Literal",
    "Membership",
    "Path",
    "Prefix",
    "Query",
    "Resolve",
    "Value",
    "conjuncts",
    "document_value",
    "evaluator",
    "holds",
    "parse_condition",
    "parse_query",
    "parse_target",
    "paths",
    "projected",
]
