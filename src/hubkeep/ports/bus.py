"""How rules reach live connections, on this node and others."""

from collections.abc import Awaitable, Callable
from typing import Protocol

METHODS_SERVED = "methods.served"  # published with the subject when a device begins to listen for methods


class NobodyServes(Exception):
    """A request on the bus that nobody answers: for a method, the device is not online."""


def method_subject(device_id: str, module_id: str) -> str:
    """Where the method calls of one identity are asked. No id holds a slash."""
    return f"method/{device_id}/{module_id}"


def desired_subject(device_id: str, module_id: str) -> str:
    """Where the desired patches of one identity are published. No id holds a slash."""
    return f"twin.desired/{device_id}/{module_id}"


class Bus(Protocol):
    """Passing-on between the hub's parts and, scaled out, its nodes. At most once, no storage."""

    def publish(self, subject: str, payload: object) -> None: ...

    def subscribe(self, subject: str, handler: Callable[[object], None]) -> Callable[[], None]:
        """Returns what unsubscribes."""

    async def request(self, subject: str, payload: object) -> object:
        """The answer of whoever serves ``subject``; how long to wait is the caller's. Raises NobodyServes at once."""

    def serve(self, subject: str, answer: Callable[[object], Awaitable[object]]) -> Callable[[], None]:
        """Answer requests on ``subject`` in the place of who did so before. Returns what ends that."""
