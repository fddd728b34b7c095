"""Roots of the hub's own certificates."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from hubkeep.errors import NotFound
from hubkeep.limits import HTTP_SERVICE_BODY

from ..roots import BUNDLE, AnnounceBody, ForceBody, RetireBody, SwitchBody
from .rows import JSON, Answer, Body, Count, Described, Time, Told, given


class ProofOfTrust(Told):
    """A device that logged in over the new root's chain alone."""

    device_id: str
    at: Time
    peer: str


class ReportOfTrust(Told):
    """What a device says of the trust bundle in its twin. holds: the new root. failure: a word; empty for none."""

    device_id: str
    version: int
    holds: bool
    failure: str


class Rollover(Told):
    """root: SHA-256 of the new one. canary: the name that serves its chain alone. bundle: the newest for devices.

    announced: whether twins tell of the bundle. proved, reported, missing: of a rehearsal.
    """

    phase: Literal["steady", "prepared", "switched", "retired"]
    root: str
    canary: str
    bundle: Count
    announced: bool
    proved: list[ProofOfTrust] | UnsetType = UNSET
    reported: list[ReportOfTrust] | UnsetType = UNSET
    missing: Annotated[list[str], Meta(description="Enabled devices without a proof.")] | UnsetType = UNSET


_REFUSED: Final = (
    "Refused while an enabled device has not proved that it trusts the new root, unless forced; with `reports` a "
    "device's word in its twin does as well."
)
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
        text=f"{_REFUSED} The old root vouches for the new one in that chain, unless `crosses` is false.",
        body=Body({JSON: SwitchBody}, HTTP_SERVICE_BODY.value),
    ),
    "admin/roots/roll-back": Described(
        "Take the last step back: serve the old chain again, or trust the old root again",
        _ROLLOVER,
        body=Body({JSON: ForceBody}, HTTP_SERVICE_BODY.value, is_required=False),
    ),
    "admin/roots/retire": Described(
        "Take the old root out of the trust bundle and out of the chain",
        _ROLLOVER,
        text=_REFUSED,
        body=Body({JSON: RetireBody}, HTTP_SERVICE_BODY.value),
    ),
    "admin/roots/finish": Described(
        "Destroy the old root's keys: there is no way back",
        _ROLLOVER,
        text="Refused for a day after the root was retired, unless forced.",
        body=Body({JSON: ForceBody}, HTTP_SERVICE_BODY.value, is_required=False),
    ),
    "admin/roots/announce": Described(
        "Tell devices of the trust bundle in their twins, or stop telling",
        _ROLLOVER,
        text="`properties.desired.hubkeep.trust` of every device: version, address, hash.",
        body=Body({JSON: AnnounceBody}, HTTP_SERVICE_BODY.value),
    ),
}
