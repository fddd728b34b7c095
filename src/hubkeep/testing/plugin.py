"""The pytest plugin: the fixture ``hub``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .hub_in_thread import HubInThread


@pytest.fixture
def hub() -> "Iterator[HubInThread]":
    """A hub of this test's own on a loopback address of its own; clients in the test's process trust it."""
    from .hub_in_thread import HubInThread  # noqa: PLC0415  # a test run without this fixture pays nothing

    with HubInThread() as running_hub, running_hub.trusted():
        yield running_hub
