"""Tokens to tree. Every fault is told with its place; nesting is bounded, so is the work."""

import math
from typing import Final, get_args
from typing import Literal as OneOf

from .functions import QUERY_FUNCTIONS, ROUTING_FUNCTIONS, Function
from .rows import JOB_ROOTS, TWIN_ROOTS
from .tokens import Token, invalid, tokens
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
    Root,
    Source,
)
from .values import UNDEFINED

NESTING: Final = 16
_AGGREGATES: Final = frozenset({"COUNT", "AVG", "SUM", "MIN", "MAX"})
_COMPARISONS: Final = frozenset({"=", "!=", "<>", "<", "<=", ">", ">="})
_WORDS: Final = {"TRUE": True, "FALSE": False, "NULL": None, "UNDEFINED": UNDEFINED}
_RESERVED: Final = frozenset(
    (
        *("SELECT", "TOP", "FROM", "WHERE", "GROUP", "BY", "AS", "AND", "OR", "NOT", "IN", "NIN"),
        *("ORDER", "JOIN", "LIKE", "DISTINCT", "HAVING"),
    )
)
_ITEMS: Final = 64
_TERMS_IN_A_ROW: Final = 64  # a row of terms is a tree as deep as it is long
# binding powers, weakest first
_TERMS: Final = ({"+", "-", "||"}, {"*", "/", "%"})
_REFERENCES: Final[dict[str, Root]] = {"$body": "body", "$twin": "twin"}
Language = OneOf["query", "routing"]


def parse_query(text: str, *, nesting: int = NESTING) -> Query:
    """A fleet, module or job query. The caller bounds the length of ``text``.

    nesting: how deep parentheses, lists, calls and negations may go. Raises QueryInvalid with place and reason.
    """
    return _Parser(text, "query", nesting).query()


def parse_target(text: str, *, nesting: int = NESTING) -> Query:
    """Which devices, or with ``FROM devices.modules WHERE`` before it which modules, meet a condition; ``*`` means all.

    What jobs and configurations are for: nothing but a condition, and no jobs. Raises QueryInvalid.
    """
    return _Parser(text, "query", nesting).target()


def parse_condition(text: str, *, nesting: int = NESTING) -> Expression | None:
    """A routing condition; None, which holds for every message, for an empty one. Raises QueryInvalid."""
    return _Parser(text, "routing", nesting).condition()


class _Parser:
    def __init__(self, text: str, language: Language, nesting: int) -> None:
        self._routing = language == "routing"
        self._functions = ROUTING_FUNCTIONS if self._routing else QUERY_FUNCTIONS
        self._tokens = tokens(text, dashes_in_system_names=self._routing)
        self._at = 0
        self._deepest = nesting
        self._depth = 0
        self._source: Source = "devices"

    # -- queries -----------------------------------------------------------------------------------------------------

    def query(self) -> Query:
        # what is selected is read after FROM is known: the source decides what names mean
        self._expect_word("SELECT")
        top = self._top()
        selected_at = self._at
        while self._next.kind != "end" and not self._is_word("FROM"):
            self._at += 1
        self._source = self._from()
        after_from, self._at = self._at, selected_at
        items = self._items()
        if not self._is_word("FROM"):
            raise self._unexpected("a comma or FROM")
        self._at = after_from
        where = self._expression() if self._took_word("WHERE") else None
        group_by = self._group_by()
        if self._next.kind != "end":
            raise self._unexpected("the end of the query")
        query = Query(self._source, items, where, group_by, top)
        self._check(query)
        return query

    def target(self) -> Query:
        where: Expression | None = None
        if self._is_word("FROM"):
            at = self._next.at
            self._source = self._from()
            if self._source == "devices.jobs":
                raise invalid("devices.jobs can be no target", at)
            where = self._expression() if self._took_word("WHERE") else None
        elif not self._took("*"):
            where = self._expression()
        if self._next.kind != "end":
            raise self._unexpected("the end of the condition")
        return Query(self._source, (Item(Path(("deviceId",)), "deviceId"),), where)

    def _top(self) -> int | None:
        if not self._took_word("TOP"):
            return None
        token = self._next
        if token.kind != "number" or not token.text.isdigit():
            raise self._unexpected("a whole number")
        self._at += 1
        return int(token.text)

    def _from(self) -> Source:
        self._expect_word("FROM")
        at = self._next.at
        words = [self._name().lower()]
        while self._took("."):
            words.append(self._name().lower())
        named = ".".join(words)
        for source in get_args(Source):
            if named == source:
                return source  # type: ignore[no-any-return]  # one of Source
        raise invalid(f"there is no collection {named!r}: devices, devices.modules or devices.jobs", at)

    def _items(self) -> tuple[Item, ...]:
        if self._took("*"):
            return ()
        items = [self._item()]
        while self._took(","):
            items.append(self._item())
            if len(items) > _ITEMS:
                raise invalid(f"more than {_ITEMS} columns", self._next.at)
        return tuple(items)

    def _item(self) -> Item:
        token = self._next
        name = token.text.upper()
        what: Path | Aggregate
        if token.kind == "word" and name in _AGGREGATES and self._tokens[self._at + 1].text == "(":
            self._at += 2
            what = Aggregate(name, None if name == "COUNT" else self._path())
            self._expect(")")
            key = name.lower()
        else:
            what = self._path()
            key = str(what.steps[-1])
        return Item(what, self._name() if self._took_word("AS") else key)

    def _group_by(self) -> tuple[Path, ...]:
        if not self._took_word("GROUP"):
            return ()
        self._expect_word("BY")
        paths = [self._path()]
        while self._took(","):
            paths.append(self._path())
        return tuple(paths)

    def _check(self, query: Query) -> None:
        if query.source == "devices.jobs" and (query.items or query.group_by):
            raise invalid("from devices.jobs only * can be selected", 0)
        if not query.aggregates:
            return
        if not query.items:
            raise invalid("* cannot be grouped", 0)
        for item in query.items:
            if isinstance(item.what, Path) and item.what not in query.group_by:
                raise invalid(f"{item.what.text} is neither grouped by nor aggregated", 0)

    # -- conditions --------------------------------------------------------------------------------------------------

    def condition(self) -> Expression | None:
        if self._next.kind == "end":
            return None
        expression = self._expression()
        if self._next.kind != "end":
            raise self._unexpected("the end of the condition")
        return expression

    def _expression(self) -> Expression:
        self._deeper()
        operands = [self._conjunction()]
        while self._took_word("OR"):
            operands.append(self._conjunction())
        self._depth -= 1
        return operands[0] if len(operands) == 1 else Junction("OR", tuple(operands))

    def _conjunction(self) -> Expression:
        operands = [self._negation()]
        while self._took_word("AND"):
            operands.append(self._negation())
        return operands[0] if len(operands) == 1 else Junction("AND", tuple(operands))

    def _negation(self) -> Expression:
        if self._is_word("NOT"):
            self._at += 1
            self._deeper()
            operand = self._negation()
            self._depth -= 1
            return Prefix("NOT", operand)
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._term(0)
        token = self._next
        if token.kind == "sign" and token.text in _COMPARISONS:
            self._at += 1
            return Infix("!=" if token.text == "<>" else token.text, left, self._term(0))
        negated = self._is_word("NOT")
        if negated:
            self._at += 1
            if not self._is_word("IN"):
                raise self._unexpected("IN")
        if self._took_word("IN"):
            return Membership(left, self._list(), negated)
        if self._took_word("NIN"):
            return Membership(left, self._list(), negated=True)
        return left

    def _list(self) -> tuple[Expression, ...]:
        if not self._took("["):
            raise self._unexpected("[: a list stands in square brackets")
        values = [self._expression()]
        while self._took(","):
            values.append(self._expression())
        self._expect("]")
        return tuple(values)

    def _term(self, level: int) -> Expression:
        if level == len(_TERMS):
            return self._factor()
        left = self._term(level + 1)
        count = 1
        while self._next.kind == "sign" and self._next.text in _TERMS[level]:
            sign = self._next.text
            self._at += 1
            left = Infix(sign, left, self._term(level + 1))
            if (count := count + 1) > _TERMS_IN_A_ROW:
                raise invalid(f"more than {_TERMS_IN_A_ROW} terms in a row", self._next.at)
        return left

    def _factor(self) -> Expression:
        if self._next.kind == "sign" and self._next.text == "-":
            self._at += 1
            self._deeper()
            operand = self._factor()
            self._depth -= 1
            return Prefix("-", operand)
        token = self._next
        if self._took("("):
            inner = self._expression()
            self._expect(")")
            return inner
        if token.kind == "string":
            self._at += 1
            return Literal(token.text)
        if token.kind == "number":
            self._at += 1
            return Literal(_number(token))
        if token.kind == "word":
            word = token.text.upper()
            if self._tokens[self._at + 1].text == "(" and self._tokens[self._at + 1].kind == "sign":
                return self._call(word)
            if word in _WORDS:
                self._at += 1
                return Literal(_WORDS[word])
        return self._path()

    def _call(self, name: str) -> Expression:
        at = self._next.at
        function = self._functions.get(name)
        if function is None:
            raise invalid(f"there is no function {name[:64]}", at)
        self._at += 2
        arguments: list[Expression] = []
        if not self._took(")"):
            arguments.append(self._expression())
            while self._took(","):
                arguments.append(self._expression())
            self._expect(")")
        _check_count(name, function, len(arguments), at)
        return Call(name, tuple(arguments))

    # -- names -------------------------------------------------------------------------------------------------------

    def _path(self) -> Path:
        token = self._next
        if token.kind not in {"word", "quoted"} or (token.kind == "word" and token.text.upper() in _RESERVED):
            raise self._unexpected("a name")
        self._at += 1
        root: Root = "document"
        steps: list[str | int] = [token.text]
        if self._routing:
            root, steps = self._reference(token)
        self._further(steps)
        if not self._routing:
            return Path(self._canonical(steps))
        if root in {"property", "system"} and len(steps) != 1:
            raise invalid(f"{token.text!r} has no parts", token.at)
        if root in {"body", "twin"} and (not steps or isinstance(steps[0], int)):
            raise invalid(f"{token.text} needs a name behind it", token.at)
        return Path(tuple(steps), root)

    def _reference(self, token: Token) -> tuple[Root, list[str | int]]:
        if token.kind == "word" and token.text == "$" and self._next.kind == "quoted":
            self._at += 1
            return "system", [self._tokens[self._at - 1].text]
        if token.kind == "quoted" or not token.text.startswith("$"):
            return "property", [token.text]
        if (root := _REFERENCES.get(token.text.lower())) is not None:
            return root, []
        return "system", [token.text[1:]]

    def _further(self, steps: list[str | int]) -> None:
        while True:
            if self._took("."):
                steps.append(self._name())
            elif self._took("["):
                index = self._next
                if index.kind != "number" or not index.text.isdigit():
                    raise self._unexpected("a whole number: an index")
                self._at += 1
                steps.append(int(index.text))
                self._expect("]")
            else:
                return

    def _canonical(self, steps: list[str | int]) -> tuple[str | int, ...]:
        """Without the collection's name, and built-in names in their one spelling."""
        words = [each.lower() if isinstance(each, str) else "" for each in steps]
        if words[0] == "devices" and len(words) > 1:
            dropped = 2 if len(words) > 2 and f"devices.{words[1]}" == self._source else 1
            steps, words = steps[dropped:], words[dropped:]
        roots = JOB_ROOTS if self._source == "devices.jobs" else TWIN_ROOTS
        steps[0] = roots.get(words[0], steps[0])
        if steps[0] == "properties" and len(steps) > 1 and words[1] in {"desired", "reported"}:
            steps[1] = words[1]
        return tuple(steps)

    def _name(self) -> str:
        token = self._next
        if token.kind not in {"word", "quoted"}:
            raise self._unexpected("a name")
        self._at += 1
        return token.text

    # -- tokens ------------------------------------------------------------------------------------------------------

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _is_word(self, word: str) -> bool:
        return self._next.kind == "word" and self._next.text.upper() == word

    def _took_word(self, word: str) -> bool:
        took = self._is_word(word)
        self._at += took
        return took

    def _expect_word(self, word: str) -> None:
        if not self._took_word(word):
            raise self._unexpected(word)

    def _took(self, sign: str) -> bool:
        took = self._next.kind == "sign" and self._next.text == sign
        self._at += took
        return took

    def _expect(self, sign: str) -> None:
        if not self._took(sign):
            raise self._unexpected(sign)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > self._deepest:
            raise invalid(f"nested more than {self._deepest} deep", self._next.at)

    def _unexpected(self, wanted: str) -> Exception:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text[:32])
        return invalid(f"{found} where {wanted} should stand", token.at)


def _number(token: Token) -> int | float:
    text = token.text
    if text[:2].lower() == "0x":
        return int(text, 16)
    value = int(text) if text.isdigit() else float(text)
    if value == math.inf:
        raise invalid("the number is too large", token.at)
    return value


def _check_count(name: str, function: Function, count: int, at: int) -> None:
    if not function.least <= count <= function.most:
        wanted = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
        raise invalid(f"{name} takes {wanted} arguments, not {count}", at)
