"""What people need for each operation: the data actions of the original, beside the permissions that policies need.

Deny by default: an operation that stands in neither table is closed to people, as all that devices do for themselves.
Source: service-protocols 1.5.
"""

from collections.abc import Mapping
from typing import Final

from hubkeep.cloud.roles import MANAGE_HUB, MANAGE_PROVISIONING

from .operations import OPERATIONS

# all of the actions are needed; none: open to everybody who is signed in
_OF_DATA: Final[Mapping[str, tuple[str, ...]]] = {
    "people/self": (),
    "devices/list": ("devices/read",),
    "devices/get": ("devices/read",),
    "devices/put": ("devices/write",),
    "devices/delete": ("devices/delete",),
    "devices/bulk": ("devices/write", "devices/delete"),
    "devices/keys": ("devices/write",),
    "devices/query": ("twins/read",),
    "statistics/devices": ("statistics/read",),
    "statistics/service": ("statistics/read",),
    "modules/list": ("devices/read",),
    "modules/get": ("devices/read",),
    "modules/put": ("devices/write",),
    "modules/delete": ("devices/delete",),
    "twins/get": ("twins/read",),
    "twins/patch": ("twins/write",),
    "twins/put": ("twins/write",),
    "twins/get/module": ("twins/read",),
    "twins/patch/module": ("twins/write",),
    "twins/put/module": ("twins/write",),
    "methods/invoke": ("directMethods/invoke",),
    "methods/invoke/module": ("directMethods/invoke",),
    "digitaltwins/get": ("twins/read",),
    "digitaltwins/patch": ("twins/write",),
    "digitaltwins/command": ("directMethods/invoke",),
    "digitaltwins/command/component": ("directMethods/invoke",),
    "jobs/create": ("jobs/write",),
    "jobs/get": ("jobs/read",),
    "jobs/list": ("jobs/read",),
    "jobs/cancel": ("jobs/delete",),
    "transfers/create": ("jobs/write", "devices/read", "devices/write", "devices/delete"),
    "transfers/list": ("jobs/read",),
    "transfers/get": ("jobs/read",),
    "transfers/cancel": ("jobs/delete",),
    "configurations/list": ("configurations/read",),
    "configurations/get": ("configurations/read",),
    "configurations/put": ("configurations/write",),
    "configurations/delete": ("configurations/delete",),
    "configurations/test": ("configurations/testQueries",),
    "configurations/apply": ("configurations/applyToEdgeDevice",),
    "devicebound/send": ("cloudToDeviceMessages/send",),
    "devicebound/send/module": ("cloudToDeviceMessages/send",),
    "devicebound/transfer": ("cloudToDeviceMessages/send",),
    "devicebound/purge": ("cloudToDeviceMessages/queue/purge",),
    "feedback/receive": ("cloudToDeviceMessages/feedback",),
    "feedback/settle": ("cloudToDeviceMessages/feedback",),
    "feedback/abandon": ("cloudToDeviceMessages/feedback",),
    "feedback/attach": ("cloudToDeviceMessages/feedback",),
    "filenotifications/receive": ("fileUpload/notifications",),
    "filenotifications/settle": ("fileUpload/notifications",),
    "filenotifications/abandon": ("fileUpload/notifications",),
    "filenotifications/attach": ("fileUpload/notifications",),
    "files/list": ("files/read",),
    "files/read": ("files/read",),
    "events/read": ("events/read",),
    "events/manage": ("events/read",),
    "admin/events": ("events/read",),
    "admin/devicebound": ("cloudToDeviceMessages/read",),
}
_PROVISIONING: Final = ("enrolments/", "groups/", "registrations/get", "registrations/delete", "registrations/query")
ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    **_OF_DATA,
    **{
        each.name: (MANAGE_PROVISIONING,)
        for each in OPERATIONS
        if each.surface == "https" and each.name.startswith(_PROVISIONING)
    },
    **{
        each.name: (MANAGE_HUB,)
        for each in OPERATIONS
        if each.surface == "https" and each.name.startswith("admin/") and each.any_of and each.name not in _OF_DATA
    },
}
# What is about many devices and keeps to those within reach: lists leave out the others, bulk requests refuse them.
KEEPS_TO_REACH: Final = frozenset({"devices/list", "devices/query", "devices/bulk", "devices/keys"})
# What names its one device with each message
ASKED_PER_MESSAGE: Final = frozenset({"devicebound/transfer"})
