"""Roots of the hub's own certificates."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from hubkeep.errors import NotFound
from hubkeep.limits import HTTP_SERVICE_BODY

from ..roots import BUNDLE, SwitchBody
from .rows import JSON, Answer, Body, Count, Described, Time, Told, given


class ProofOfTrust(Told):
    """A device that logged in over the new root's chain alone."""

    device_id: str
    at: Time
    peer: str


class Rollover(Told):
    """root: SHA-256 of the new one. canary: the name that serves its chain alone. bundle: the newest for devices.

    proved, missing: of a rehearsal.
    """

    phase: Literal["steady", "prepared", "switched"]
    root: str
    canary: str
    bundle: Count
    proved: list[ProofOfTrust] | UnsetType = UNSET
    missing: Annotated[list[str], Meta(description="Enabled devices.")] | UnsetType = UNSET


_ROLLOVER: Final = given(Rollover, "How it stands.")

ROWS: Final[Mapping[str, Described]] = {
    "trust/bundle": Described(
        "Get the signed trust bundle for devices",
        {200: Answer("A JWS in compact form (ES256).", None, BUNDLE)},
        text="version: a number, or `latest`. A version never changes.",
        refusals=(NotFound,),
    ),
    "admin/roots/get": Described("Show how a change of the hub's root stands", _ROLLOVER),
    "admin/roots/prepare": Described(
        "Make a new root beside the one that serves",
        _ROLLOVER,
        text="The trust bundle then has both; the canary name serves the new chain alone.",
    ),
    "admin/roots/rehearsal": Described("Tell which devices have proved that they trust the new root", _ROLLOVER),
    "admin/roots/switch": Described(
        "Serve the new chain to new handshakes",
        _ROLLOVER,
        text="Refused while an enabled device has not proved that it trusts the new root, unless forced.",
        body=Body({JSON: SwitchBody}, HTTP_SERVICE_BODY.value),
    ),
    "admin/roots/roll-back": Described("Serve the old chain again", _ROLLOVER),
}
