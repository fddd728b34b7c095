"""Text to tokens, in one pass. Raises QueryInvalid with the place."""

import re
from typing import Final, NamedTuple

from hubkeep.errors import QueryInvalid

# Alternatives begin with different characters and none nests a repetition in another: linear in the text (L-R5).
_TOKEN: Final = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<comment>/\*(?:[^*]|\*(?!/))*\*/)
    | (?P<number>0[xX][0-9A-Fa-f]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<quoted>\[\[[^\[\]]*\]\])
    | (?P<word>[$\w]+)
    | (?P<sign><>|!=|<=|>=|\|\||[=<>+\-*/%(),.\[\]])
    """,
    re.VERBOSE,
)
_SYSTEM_NAME: Final = re.compile(r"\$[\w-]+")
_STRING: Final = {quote: re.compile(rf"{quote}([^{quote}\\]|\\.)*{quote}", re.DOTALL) for quote in "'\""}
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_DIGITS: Final = 20  # a longer number means nothing that a shorter one does not (L-R5)


class Token(NamedTuple):
    """kind: word, quoted, number, string, sign or end. text: as written; of ``quoted`` and ``string`` the content."""

    kind: str
    text: str
    at: int  # in characters, from 0


def invalid(reason: str, at: int) -> QueryInvalid:
    """The error for a fault at the character ``at``, counted from 0; people count from 1."""
    text = f"The query is not valid at character {at + 1}: {reason}."
    return QueryInvalid(text, remedy="the language: docs/reference/queries.md")


def tokens(text: str, *, dashes_in_system_names: bool = False) -> list[Token]:
    """All tokens of ``text`` and an ``end``. dashes_in_system_names: ``$dt-subject`` is one name (routing)."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        if text[at] in _STRING:
            if (string := _STRING[text[at]].match(text, at)) is None:
                raise invalid("a string does not end", at)
            found.append(Token("string", _ESCAPE.sub(_unescaped, string.group()[1:-1]), at))
            at = string.end()
            continue
        match = _SYSTEM_NAME.match(text, at) if dashes_in_system_names else None
        kind = "word" if match else ""
        if match is None:
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise invalid(f"{text[at]!r} means nothing here", at)
            kind = match.lastgroup
        token = match.group()
        if kind == "number" and len(token) > _DIGITS + 2:
            raise invalid(f"a number of more than {_DIGITS} digits", at)
        if kind not in {"space", "comment"}:
            found.append(Token(kind, token[2:-2] if kind == "quoted" else token, at))
        at = match.end()
    found.append(Token("end", "", len(text)))
    return found


def _unescaped(match: re.Match[str]) -> str:
    code, character = match.groups()
    return chr(int(code, 16)) if code else str(character)
