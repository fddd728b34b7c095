"""The running hub: put together in ``composition``, with what the command line needs of it."""

from .composition import running
from .data_directory import FIRST_DEVICE
from .failures import CannotListen, NotServable, StartFailure, WrongDirectory
from .hub import Hub
from .listening import raise_descriptor_limit

__all__ = [
    "FIRST_DEVICE",
    "CannotListen",
    "Hub",
    "NotServable",
    "StartFailure",
    "WrongDirectory",
    "raise_descriptor_limit",
    "running",
]
