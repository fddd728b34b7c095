"""Names of uploaded files are data: what a device may choose, and the key under which a store keeps it."""

import re
from hashlib import sha256
from typing import Final

from hubkeep.errors import BadRequest
from hubkeep.limits import BLOB_NAME, BLOB_SEGMENTS

_STAGED: Final = ".staging"  # begins with a dot, so no key of a name begins with it
_LONGEST: Final = 200  # bytes of a segment; file systems take 255
# what object stores or file systems read in their own way: separators, globs, quotes, the escape itself
_ESCAPED: Final = re.compile(r'[\x00-\x1f\x7f\\"%*:<>?|^`{}\[\]~#]')


def check_blob_name(name: str) -> None:
    """Raises BadRequest for a name that could mean another place once it stands in a URL."""
    segments = name.split("/")
    faults = {
        "it is empty": not name,
        f"it is longer than {BLOB_NAME.value} characters": len(name) > BLOB_NAME.value,
        f"it has more than {BLOB_SEGMENTS.value} parts": len(segments) > BLOB_SEGMENTS.value,
        "a part is empty": "" in segments,
        "a part is . or ..": bool({".", ".."} & set(segments)),
        "it has a backslash": "\\" in name,
        "it has a character that cannot be printed": not name.isprintable(),
    }
    for fault, is_so in faults.items():
        if is_so:
            raise BadRequest("The blobName is not valid.", reason=f"the blob name is not valid: {fault}")


def key_of(name: str) -> str:
    """The key of a whole blob name. Different names have different keys; readable ones stay readable."""
    return "/".join(_key_segment(segment) for segment in name.split("/"))


def name_of(key: str) -> str | None:
    """The name that ``key_of`` made ``key`` of; None where a part was too long to be kept."""
    if "%~" in key:
        return None
    return re.sub(r"%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), key)


def staged_key(upload_id: str, block: bytes) -> str:
    """Where a block waits for the list that names it."""
    return f"{staged_prefix(upload_id)}/{block.hex()}"


def staged_prefix(upload_id: str) -> str:
    return f"{_STAGED}/{upload_id}"


def _key_segment(segment: str) -> str:
    escaped = _ESCAPED.sub(lambda found: f"%{ord(found[0]):02X}", segment)
    if escaped.startswith("."):
        escaped = "%2E" + escaped[1:]
    if escaped.endswith((".", " ")):
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    if len(escaped.encode()) > _LONGEST:
        # "%~" is in no other key: the escape is always followed by two hex digits
        escaped = f"{escaped[:40]}%~{sha256(segment.encode()).hexdigest()}"
    return escaped
