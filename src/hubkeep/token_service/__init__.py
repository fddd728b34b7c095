"""The token service: proves devices in the fleet's own way, and hands them tokens that the hub makes for them.

A process of its own (``hubkeep token-service``). A plug-in proves who asks; the names below are all that one needs
(docs/operating/token-service.md). Start at ``service.TokenService``.
"""

from hubkeep.errors import ServerBusy, Unauthorized

from .plugins import DeviceAuthenticator, Presented, Proved, Surroundings

__all__ = ["DeviceAuthenticator", "Presented", "Proved", "ServerBusy", "Surroundings", "Unauthorized"]
