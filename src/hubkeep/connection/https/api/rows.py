"""What a row of the description says, and the members that many rows share."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from hubkeep.errors import HubError
from hubkeep.limits import QUERY_PAGE, QUERY_PAGE_DEFAULT

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"


class Parameter(NamedTuple):
    """A query parameter or header. shape: a type that msgspec knows."""

    name: str
    shape: Any
    text: str
    is_required: bool = False


class Answer(NamedTuple):
    """shape: a type that msgspec knows, ``BYTES`` content has none; None: no body."""

    text: str
    shape: Any = None
    content: str = JSON
    headers: tuple[Parameter, ...] = ()


class Body(NamedTuple):
    """contents: media type to shape; a shape of None is any bytes."""

    contents: Mapping[str, Any]
    limit: int
    is_required: bool = True


class Described(NamedTuple):
    """One operation. refusals: beside those that its credential, its body and its address bring with them.

    numbered: refusals are told in form B (service-protocols 2.16). is_of_provisioning: in that service's own form.
    """

    summary: str
    answers: Mapping[int, Answer]
    text: str = ""
    body: Body | None = None
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    refusals: tuple[type[HubError], ...] = ()
    numbered: bool = False
    is_of_provisioning: bool = False


class Told(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What the hub answers: these members and no others. UNSET: a member that may be left out."""


Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$", description="UTC")]
Count = Annotated[int, Meta(ge=0)]
Etag = Annotated[str, Meta(description="Opaque; it changes with every write. Quote it in If-Match.")]
Key = Annotated[
    str,
    Meta(
        description="Base64 of 16 to 64 bytes. In a request, empty text: the hub makes one.",
        extra_json_schema={"pattern": r"^$|^([A-Za-z0-9+/]{4}){5,20}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"},
    ),
]
Properties = Annotated[dict[str, Any], Meta(description="At most 10 levels; keys hold no dot, space or $.")]

ETAG: Final = Parameter("ETag", Annotated[str, Meta(pattern='^".*"$')], "The version of what is told, in quotes.")
IF_MATCH: Final = Parameter(
    "If-Match",
    str,
    "The ETag of the version that is meant, in quotes or not; `*` for any.",
)
IF_MATCH_CREATES: Final = IF_MATCH._replace(text=IF_MATCH.text + " Without it: create.")
PAGE_SIZE: Final = Parameter(
    "x-ms-max-item-count",
    Annotated[str, Meta(extra_json_schema={"pattern": "^(|-1|0*[1-9][0-9]{0,8})$"})],
    f"Rows of a page: {QUERY_PAGE_DEFAULT.value} by default, {QUERY_PAGE.value} at most.",
)
CONTINUATION: Final = Parameter("x-ms-continuation", str, "From the page before; absent for the first one.")
NEXT_PAGE: Final = Parameter("x-ms-continuation", str, "There is another page: send this with the same request.")


def top(most: int) -> Parameter:
    return Parameter("top", Annotated[int, Meta(ge=1, le=most)], f"At most so many: {most} by default.")


def empty(text: str = "Done.") -> Mapping[int, Answer]:
    return {204: Answer(text)}


def given(shape: Any, text: str, *headers: Parameter) -> Mapping[int, Answer]:
    return {200: Answer(text, shape, headers=headers)}
