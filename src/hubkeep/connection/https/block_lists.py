"""The body of Put Block List: XML that names blocks. Source: device-protocols 5.4; Azure Storage, Put Block List."""

import binascii
from base64 import b64decode
from typing import Final, NoReturn
from xml.parsers import expat

from hubkeep.errors import InvalidBlockList
from hubkeep.limits import BLOB_BLOCKS, BLOCK_ID

_ROOT: Final = "BlockList"
_KINDS: Final = frozenset({"Latest", "Uncommitted"})
_LONGEST: Final = (BLOCK_ID.value + 2) // 3 * 4


class BlockListReader:
    """Feed the body as it comes, then ``finish``. Every method raises InvalidBlockList.

    No document type and so no entity is taken: nothing in the body can grow, nor name another document.
    """

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self._depth = 0
        self._text: list[str] = []
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        self._parser = parser

    def feed(self, data: bytes) -> None:
        self._parse(data, last=False)

    def finish(self) -> list[bytes]:
        """The ids of the blocks, decoded, in order."""
        self._parse(b"", last=True)
        return self.blocks

    def _parse(self, data: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(data, last)
        except (expat.ExpatError, ValueError) as error:
            raise InvalidBlockList(reason=f"the block list is no XML: {error}") from None

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if self._depth == 0 and name != _ROOT:
            _refuse(f"the root is {name[:64]!r}, not {_ROOT}")
        if self._depth == 1 and name == "Committed":
            _refuse("it names a committed block; this hub knows those of the upload alone")
        if (self._depth == 1 and name not in _KINDS) or self._depth > 1:
            _refuse(f"{name[:64]!r} stands where a block should")
        self._depth += 1
        self._text = []

    def _end(self, _name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            if len(self.blocks) >= BLOB_BLOCKS.value:
                _refuse(f"it names over {BLOB_BLOCKS.value} blocks")
            self.blocks.append(block_id("".join(self._text)))

    def _characters(self, text: str) -> None:
        if self._depth == 2:
            if len(text) + sum(map(len, self._text)) > 4 * _LONGEST:
                _refuse("a block id is too long")
            self._text.append(text)

    def _doctype(self, *_: object) -> None:
        _refuse("it declares a document type")


def block_id(text: str) -> bytes:
    """A block id, from base64. Raises InvalidBlockList."""
    try:
        decoded = b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        _refuse("a block id is no base64")
    if not 1 <= len(decoded) <= BLOCK_ID.value:
        _refuse(f"a block id has {len(decoded)} bytes, not 1 to {BLOCK_ID.value}")
    return decoded


def _refuse(why: str) -> NoReturn:
    raise InvalidBlockList(reason=f"the block list is not valid: {why}")
