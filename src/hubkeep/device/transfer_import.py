"""The fleet from a blob: one record a line, each with its import mode. Source: service-protocols 2.9."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from hubkeep.errors import BadRequest, ContainerRefused, HubError
from hubkeep.limits import TRANSFER_LINE
from hubkeep.model import TransferJob
from hubkeep.ports import BlobContainer, TransferStore

from .bulk import BulkIdentities, BulkItem, BulkRecord
from .transfers import ConfigurationFormat, FleetFormat

ERRORS_BLOB: Final = "importErrors.log"
_RECORDS: Final = 100  # of one transaction
_NOTED_EVERY: Final = 2000  # records
_MARK: Final = b"\xef\xbb\xbf"  # some editors begin a file with it


class FleetImport:
    """How far it came is noted now and then, with the refusals until there, which the output container keeps."""

    def __init__(
        self,
        store: TransferStore,
        bulk: BulkIdentities,
        records: FleetFormat,
        configurations: ConfigurationFormat,
    ) -> None:
        self._store, self._bulk = store, bulk
        self._records, self._configurations = records, configurations

    async def run(self, job: TransferJob, source: BlobContainer, output: BlobContainer) -> TransferJob:
        """The job as it came to its end. Raises what containers and store raise."""
        stat = await source.stat(job.input_blob)
        if job.etag not in {"", stat.etag}:
            raise ContainerRefused(f"{job.input_blob} was changed while it was imported.")
        job = msgspec.structs.replace(job, etag=stat.etag)
        errors = bytearray()
        noted = job.records
        if job.offset < stat.size:
            lines = whole_lines(source.read(job.input_blob, job.offset, stat.etag))
            async for items, end in self._batches(lines, job.offset):
                refused = await self._carry_out(items, errors)
                job = msgspec.structs.replace(
                    job,
                    offset=end,
                    records=job.records + len(items),
                    refused=job.refused + refused,
                    progress=min(99, 100 * end // stat.size),
                )
                if job.records >= noted + _NOTED_EVERY or len(errors) >= TRANSFER_LINE.value:
                    job, noted = await self._noted(job, output, errors), job.records
        if job.with_configurations:
            errors += await self._configurations_of(job, source)
        job = await self._noted(job, output, errors)
        if job.blocks:
            await output.put_blocks(ERRORS_BLOB, job.blocks)
        else:
            await output.put(ERRORS_BLOB, b"")
        return job

    async def _carry_out(self, items: Sequence[BulkItem], errors: bytearray) -> int:
        outcomes = await self._bulk.carry_out(items)
        refused = 0
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, HubError):
                errors += self._records.error(item, outcome) + b"\n"
                refused += 1
        return refused

    async def _noted(self, job: TransferJob, output: BlobContainer, errors: bytearray) -> TransferJob:
        if errors:
            await output.put_block(ERRORS_BLOB, job.blocks, bytes(errors))
            errors.clear()
            job = msgspec.structs.replace(job, blocks=job.blocks + 1)
        await self._store.put(job)
        return job

    async def _batches(
        self, lines: AsyncIterator[tuple[bytes | None, int]], offset: int
    ) -> AsyncIterator[tuple[list[BulkItem], int]]:
        """Items for one transaction each, and the bytes of the blob up to their end."""
        items: list[BulkItem] = []
        names: set[tuple[str, str]] = set()
        async for line, size in lines:
            text = line if line is None or offset else line.removeprefix(_MARK)
            item = _TOO_LONG if text is None else self._records.read(text) if text.strip() else None
            if item is not None:
                name = item.device_id, item.module_id
                is_readable = isinstance(item.asked, BulkRecord)
                # a transaction that names an identity twice is refused; a file may, and means it in this order
                if len(items) == _RECORDS or (is_readable and name in names):
                    yield items, offset
                    items, names = [], set()
                items.append(item)
                names.add(name)
            offset += size
        if items:
            yield items, offset

    async def _configurations_of(self, job: TransferJob, source: BlobContainer) -> bytes:
        stat = await source.stat(job.configurations_blob)
        errors = bytearray()
        if not stat.size:
            return b""
        async for line, _ in whole_lines(source.read(job.configurations_blob, 0, stat.etag)):
            refused = self._records.error(_TOO_LONG, _too_long()) if line is None else None
            if line is not None and line.strip():
                refused = await self._configurations.put(line.removeprefix(_MARK))
            if refused is not None:
                errors += refused + b"\n"
        return bytes(errors)


def _too_long() -> BadRequest:
    return BadRequest(f"A line is longer than {TRANSFER_LINE.value} bytes.")


_TOO_LONG: Final = BulkItem("", "", "", _too_long())


async def whole_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes | None, int]]:
    """Each line without its end, and its bytes with it. None for one that is too long: it is passed over, not held."""
    held = bytearray()
    passed = 0  # bytes of a line that is too long
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            held += end
            size = passed + len(held) + 1
            yield (None if passed or len(held) > TRANSFER_LINE.value else bytes(held)), size
            held.clear()
            passed = 0
        held += rest
        if passed or len(held) > TRANSFER_LINE.value:
            passed += len(held)
            held.clear()
    if held or passed:
        yield (None if passed else bytes(held)), passed + len(held)
