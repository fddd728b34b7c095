"""A consumer group of the Event Hubs-compatible endpoint (service-protocols 5.1)."""

import msgspec


class ConsumerGroup(msgspec.Struct, frozen=True):
    """created: Unix seconds; 0 for ``$Default`` and those that settings name, which cannot be deleted."""

    name: str
    created: float = 0.0
