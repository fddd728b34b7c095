"""Attestation by a TPM's endorsement key. Source: provisioning-and-pki 1.11."""

from typing import Final

from hubkeep.errors import BadRequest
from hubkeep.model import Attestation

_PUBLIC_BYTES: Final = range(16, 4097)  # of a TPM2B_PUBLIC, its two length bytes counted


def checked(wanted: Attestation, *, is_group: bool) -> Attestation:
    """Raises BadRequest."""
    if is_group:
        raise BadRequest("A group attests by x509 or symmetricKey.")
    if wanted.endorsement_key is None:
        raise BadRequest("A tpm attestation needs an endorsementKey.")
    for key in (wanted.endorsement_key, wanted.storage_root_key):
        if key is not None and (len(key) not in _PUBLIC_BYTES or int.from_bytes(key[:2]) != len(key) - 2):
            raise BadRequest("A TPM key is base64 of a TPM2B_PUBLIC.")
    return wanted
