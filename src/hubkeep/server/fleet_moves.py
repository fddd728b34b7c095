"""Import and export jobs with what they reach: the composition of one surface."""

import contextlib
from typing import NamedTuple

from hubkeep.cloud.egress import EgressRules
from hubkeep.connection.https.configurations import ConfigurationLines
from hubkeep.connection.https.fleet_records import FleetRecords
from hubkeep.device.bulk import BulkIdentities
from hubkeep.device.transfer_export import FleetExport
from hubkeep.device.transfer_import import FleetImport
from hubkeep.device.transfer_runner import TransferRunner
from hubkeep.device.transfers import Transfers
from hubkeep.endpoints.blob_container import AzureContainers
from hubkeep.endpoints.http_client import HttpClient, resolve
from hubkeep.limits import Limits
from hubkeep.messaging.configurations import Configurations
from hubkeep.messaging.twins import Twins
from hubkeep.ports import Clock, Egress
from hubkeep.settings import Settings, SettingsError
from hubkeep.store.registry import Registry


class FleetMoves(NamedTuple):
    transfers: Transfers
    runner: TransferRunner


def egress_of(settings: Settings) -> EgressRules:
    """Raises SettingsError."""
    wanted = settings.egress
    try:
        return EgressRules(wanted.allow, wanted.deny, resolve, only_allowed=wanted.only_allowed)
    except ValueError as error:
        raise SettingsError(f"egress: {error}") from None


async def fleet_moves(
    registry: Registry,
    bulk: BulkIdentities,
    twins: Twins,
    configurations: Configurations,
    egress: Egress,
    clock: Clock,
    limits: Limits,
    up: contextlib.AsyncExitStack,
) -> FleetMoves:
    http = await up.enter_async_context(HttpClient(egress))
    containers = AzureContainers(http, egress)
    records, lines = FleetRecords(twins), ConfigurationLines(configurations)
    transfers = Transfers(registry.transfers, containers, clock)
    runner = TransferRunner(
        registry.transfers,
        transfers,
        FleetExport(registry.transfers, registry.identities, records, lines),
        FleetImport(registry.transfers, bulk, records, lines),
        containers,
        clock,
        limits,
    )
    return FleetMoves(transfers, runner)
