"""Runs import and export jobs, one at a time. A hub that starts again goes on where it stopped.

What was done since the last note of it is done again then: records of about a second. They come to the same unless they
create and nothing else, or ask for an etag.
"""

import asyncio
import logging
from typing import Final

import msgspec

from hubkeep.errors import ContainerUnreachable, HubError, StoreUnavailable
from hubkeep.limits import Limits
from hubkeep.model import TRANSFER_ENDED, TransferJob
from hubkeep.ports import BlobContainers, Clock, TransferStore

from .transfer_export import FleetExport
from .transfer_import import FleetImport
from .transfers import Transfers, ended

log = logging.getLogger(__name__)

_LOOK: Final = 60.0  # seconds between two looks without being woken
_FORGET_EVERY: Final = 3600.0
_FIRST_PAUSE: Final = 0.5  # seconds; each next one is twice as long
_TRIES: Final = 8  # without any progress between them


class TransferRunner:
    """``run`` is one background task of the hub."""

    def __init__(
        self,
        store: TransferStore,
        transfers: Transfers,
        exporter: FleetExport,
        importer: FleetImport,
        containers: BlobContainers,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._store, self._exporter, self._importer = store, exporter, importer
        self._containers, self._clock, self._limits = containers, clock, limits
        self._work = asyncio.Event()
        self._running: tuple[str, asyncio.Task[None]] | None = None
        transfers.wake, transfers.stop = self._work.set, self._stop

    async def run(self) -> None:
        """Until it is cancelled. What fails in one job does not end the next (L-R1)."""
        forget_at = self._clock.monotonic()
        while True:
            self._work.clear()
            pause = _LOOK
            try:
                if self._clock.monotonic() >= forget_at:
                    await self._store.forget(self._clock.now() - self._limits.job_history)
                    forget_at = self._clock.monotonic() + _FORGET_EVERY
                if (job := await self._store.active()) is not None:
                    await self._attend(job)
                    continue
            except HubError as error:
                log.warning("import and export jobs: %s", error.reason)
                pause = 1.0
            except Exception:
                log.exception("running an import or export job failed")
                pause = 1.0
            try:
                async with asyncio.timeout(pause):
                    await self._work.wait()
            except TimeoutError:
                pass

    def _stop(self, job_id: str) -> None:
        if self._running is not None and self._running[0] == job_id:
            self._running[1].cancel()

    async def _attend(self, job: TransferJob) -> None:
        task = asyncio.create_task(self._run_one(job), name=f"transfer {job.job_id}")
        self._running = (job.job_id, task)
        try:
            await asyncio.wait({task})
        finally:
            self._running = None
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def _run_one(self, job: TransferJob) -> None:
        """Raises StoreUnavailable when not even its end could be written: it is taken up again."""
        failures, furthest = 0, _position(job)
        while True:
            try:
                await self._carry_out(job)
                break
            except (ContainerUnreachable, StoreUnavailable) as error:
                found = await self._store.get(job.job_id)
                if found is None or found.status in TRANSFER_ENDED:
                    return
                failures = 1 if _position(found) != furthest else failures + 1
                job, furthest = found, _position(found)
                if failures >= _TRIES:
                    await self._store.put(ended(job, "failed", self._clock.now(), str(error)))
                    return
                log.info("the job %s waits: %s", job.job_id, error.reason)
            except HubError as error:
                log.warning("the job %s failed: %s", job.job_id, error.reason)
                await self._fail(job, str(error))
                return
            except Exception:
                log.exception("the job %s failed", job.job_id)
                await self._fail(job, "A fault of the hub ended the job.")
                return
            await asyncio.sleep(_FIRST_PAUSE * 2 ** (failures - 1))

    async def _carry_out(self, job: TransferJob) -> None:
        if job.status != "running":
            job = msgspec.structs.replace(job, status="running", begun=self._clock.now())
            await self._store.put(job)
        output = self._containers.open(job.output_url)
        if job.type == "export":
            job = await self._exporter.run(job, output)
        else:
            job = await self._importer.run(job, self._containers.open(job.input_url), output)
        await self._store.put(ended(job, "completed", self._clock.now()))

    async def _fail(self, job: TransferJob, failure: str) -> None:
        stored = await self._store.get(job.job_id)  # with the counts that it came to
        await self._store.put(ended(stored or job, "failed", self._clock.now(), failure))


def _position(job: TransferJob) -> tuple[str, int, int]:
    return job.after, job.offset, job.blocks
