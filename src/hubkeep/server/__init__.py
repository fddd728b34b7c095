"""The running hub: put together in ``composition``, with what the command line needs of it."""

from .composition import running
from .data_directory import FIRST_DEVICE
from .failures import CannotListen, NotServable, StartFailure, WrongDirectory
from .hub import Hub
from .listening import raise_descriptor_limit
from .token_service import RunningTokenService, running_token_service

__all__ = [
    "FIRST_DEVICE",
    "CannotListen",
    "Hub",
    "NotServable",
    "RunningTokenService",
    "StartFailure",
    "WrongDirectory",
    "raise_descriptor_limit",
    "running",
    "running_token_service",
]
