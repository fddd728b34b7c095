"""The SASL mechanism TPM: a device shows its TPM's keys, opens what only that TPM can, and answers with a token.

Its names and keys come first, then its storage root key; the challenge goes out in two parts. Source:
provisioning-and-pki 1.11.
"""

from typing import Final

import msgspec

from hubkeep.device.provisioning.tpm import TpmKeys
from hubkeep.errors import BadRequest
from hubkeep.model import LinkInfo, Principal

from ..device_registrations import DeviceRegistrations, RegistrantName

MECHANISM: Final = "TPM"
_SEGMENT, _LAST, _SEQUENCE = 0x80, 0x40, 0x03  # of the byte before a part of what is long
_WHOLE: Final = b"\x00"
_FIRST_PART: Final = 470  # bytes: a SASL frame has at most 512
_MOST: Final = 8192  # bytes that a device says at a time
_PARTS: Final = 20  # in which it says them


class TpmExchange:
    """One for each connection. Call ``answered`` with what the device says, from its sasl-init on."""

    def __init__(self, registrations: DeviceRegistrations, info: LinkInfo, operation: str) -> None:
        self._registrations, self._info, self._operation = registrations, info, operation
        self._said = bytearray()
        self._parts = 0
        self._name: RegistrantName | None = None
        self._endorsement_key = self._storage_root_key = b""
        self._to_tell: list[bytes] = []

    async def answered(self, response: bytes) -> bytes | Principal:
        """The next challenge, or whom the device has proved to be.

        Raises BadRequest, Throttled; Unauthorized, recorded but for what no device says.
        """
        said = self._whole(response)
        if said is None:
            return _WHOLE
        if self._name is None:
            self._name, self._endorsement_key = _introduced(said)
            return _WHOLE
        if not self._storage_root_key:
            self._storage_root_key = said
            keys = TpmKeys(self._endorsement_key, said)
            blob = await self._registrations.tpm_challenge(self._name, keys, self._info, operation=self._operation)
            self._to_tell = [b"\x80" + blob[:_FIRST_PART], b"\xc1" + blob[_FIRST_PART:]]
        if self._to_tell:
            return self._to_tell.pop(0)
        token = said.decode("ascii", "replace") or "-"  # none is refused as a bad one is
        principal = await self._registrations.connect(self._name, token, self._info, operation=self._operation)
        assert principal.registration is not None, "who registers has proved no other thing"
        proof = msgspec.structs.replace(principal.registration, storage_root_key=self._storage_root_key)
        return msgspec.structs.replace(principal, registration=proof)

    def _whole(self, response: bytes) -> bytes | None:
        """None: more parts follow. Raises BadRequest."""
        control = response[0] if response else 0
        if not control & _SEGMENT:
            return response[1:]
        is_due = control & _SEQUENCE == self._parts & _SEQUENCE and self._parts < _PARTS
        if not is_due or len(self._said) + len(response) > _MOST:
            raise BadRequest(reason="parts of a SASL response out of order, or too many of them")
        self._said += response[1:]
        self._parts += 1
        if not control & _LAST:
            return None
        said = bytes(self._said)
        self._said.clear()
        self._parts = 0
        return said


def _introduced(said: bytes) -> tuple[RegistrantName, bytes]:
    """Who it is, and its endorsement key. Raises BadRequest."""
    parts = said.split(b"\0", 2)
    if len(parts) != 3:
        raise BadRequest(reason="SASL TPM begins with id scope, registration id and endorsement key")
    scope, name = (each.decode(errors="replace") for each in parts[:2])
    return RegistrantName(scope, name), parts[2]
