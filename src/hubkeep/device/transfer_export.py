"""The fleet to a blob: one record a line, in the order of ids. Source: service-protocols 2.9."""

from typing import Final

import msgspec

from hubkeep.limits import TRANSFER_BLOCK
from hubkeep.model import TransferJob
from hubkeep.ports import BlobContainer, IdentityStore, TransferStore

from .transfers import ConfigurationFormat, FleetFormat

_PAGE: Final = 200  # identities


class FleetExport:
    """What is written is noted with each block that the container took: an export goes on behind it."""

    def __init__(
        self,
        store: TransferStore,
        identities: IdentityStore,
        records: FleetFormat,
        configurations: ConfigurationFormat,
    ) -> None:
        self._store, self._identities = store, identities
        self._records, self._configurations = records, configurations

    async def run(self, job: TransferJob, output: BlobContainer) -> TransferJob:
        """The job as it came to its end. Raises what the container and the store raise."""
        total = max((await self._identities.count()).total, 1)
        device_id, _, module_id = job.after.partition("/")
        after, devices, records, block = (device_id, module_id), job.offset, job.records, bytearray()
        while page := await self._identities.page(_PAGE, after):
            for identity, twin in page:
                block += self._records.write(identity, twin, keys=job.with_keys)
                block += b"\n"
                devices += not identity.module_id
            records += len(page)
            after = page[-1][0].device_id, page[-1][0].module_id
            if len(block) >= TRANSFER_BLOCK.value:
                await output.put_block(job.output_blob, job.blocks, bytes(block))
                block.clear()
                job = msgspec.structs.replace(
                    job,
                    after="/".join(after),
                    blocks=job.blocks + 1,
                    offset=devices,
                    records=records,
                    progress=min(99, 100 * devices // total),
                )
                await self._store.put(job)
        if job.blocks:
            if block:
                await output.put_block(job.output_blob, job.blocks, bytes(block))
            await output.put_blocks(job.output_blob, job.blocks + bool(block))
        else:
            await output.put(job.output_blob, bytes(block))
        if job.with_configurations:
            lines = [line async for line in self._configurations.lines()]
            await output.put(job.configurations_blob, b"".join(line + b"\n" for line in lines))
        return msgspec.structs.replace(job, offset=devices, records=records)
