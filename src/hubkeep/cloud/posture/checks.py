"""All checks, by id."""

from collections.abc import Mapping, Sequence
from typing import Final

from . import cloud, connection, device_admission, device_credentials, device_fleet
from .check import Check

CHECKS: Final[Sequence[Check]] = tuple(
    sorted(
        (
            *device_credentials.CHECKS,
            *device_fleet.CHECKS,
            *device_admission.CHECKS,
            *connection.CHECKS,
            *cloud.CHECKS,
        ),
        key=lambda each: each.id,
    )
)
BY_ID: Final[Mapping[str, Check]] = {each.id: each for each in CHECKS}
