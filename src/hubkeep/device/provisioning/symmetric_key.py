"""Attestation by symmetric keys: of one device, or derived from a group's. Source: provisioning-and-pki 1.9, 2.2."""

import secrets
from typing import Any, Final

import msgspec

from hubkeep.errors import BadRequest
from hubkeep.model import Attestation, Enrolment

from ..keys import check_key, derived_key

_NEW_KEY_BYTES: Final = 64


def checked(wanted: Attestation) -> Attestation:
    """With keys made where none were given. Raises BadRequest."""
    for key in wanted.keys:
        check_key(key, "A symmetric key")
    if wanted.primary_key is not None and wanted.primary_key == wanted.secondary_key:
        raise BadRequest("The primary and the secondary key are the same.")
    primary = wanted.primary_key or secrets.token_bytes(_NEW_KEY_BYTES)
    secondary = wanted.secondary_key or secrets.token_bytes(_NEW_KEY_BYTES)
    return msgspec.structs.replace(wanted, primary_key=primary, secondary_key=secondary)


def device_keys(enrolment: Enrolment, key_id: str) -> tuple[bytes, bytes]:
    """The two keys of a device: the enrolment's own, or a group's derived ones.

    key_id: the registration id; its case counts.
    """
    primary, secondary = enrolment.attestation.primary_key, enrolment.attestation.secondary_key
    assert primary is not None, "symmetric keys are made with the enrolment"
    assert secondary is not None, "symmetric keys are made with the enrolment"
    if not enrolment.is_group:
        return primary, secondary
    return derived_key(primary, key_id), derived_key(secondary, key_id)


def at_the_hub(enrolment: Enrolment, key_id: str) -> dict[str, Any]:
    """The credentials of the identity."""
    primary, secondary = device_keys(enrolment, key_id)
    return {
        "authentication": "sas",
        "primary_key": primary,
        "secondary_key": secondary,
        "primary_thumbprint": None,
        "secondary_thumbprint": None,
    }
