"""Import and export jobs: the fleet from or to a container of blobs. Source: service-protocols 2.9.

Here they are made, shown and cancelled; ``transfer_runner`` runs them.
"""

import re
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from hubkeep.errors import BadRequest, HubError, JobNotFound
from hubkeep.limits import TRANSFERS_LISTED
from hubkeep.model import TRANSFER_ENDED, Identity, TransferJob, TransferType, Twin
from hubkeep.ports import BlobContainers, Clock, TransferStore

from .bulk import BulkItem

_SIGNATURE: Final = re.compile(r"(?i)([?&]sig=)[^&]*")
_URL_LENGTH: Final = 4096  # characters


class FleetFormat(Protocol):
    """Identities with their twins as lines."""

    def read(self, line: bytes) -> BulkItem:
        """What a line asks for. Never raises: what is wrong with it is part of the item."""

    def write(self, identity: Identity, twin: Twin, *, keys: bool) -> bytes: ...

    def error(self, item: BulkItem, error: HubError) -> bytes:
        """Why a line was refused, as a line."""


class ConfigurationFormat(Protocol):
    """Configurations as lines."""

    def lines(self) -> AsyncIterator[bytes]: ...

    async def put(self, line: bytes) -> bytes | None:
        """Create or update what a line holds; why that is refused, as a line. Raises StoreUnavailable."""


class Wanted(NamedTuple):
    """What a back end says of a job. *_url: of containers."""

    type: TransferType
    input_url: str = ""
    input_blob: str = ""
    output_url: str = ""
    output_blob: str = ""
    with_keys: bool = True
    with_configurations: bool = False
    configurations_blob: str = ""


class Transfers:
    """wake, stop: the runner looks for work, and leaves a job alone; it puts itself there."""

    def __init__(self, store: TransferStore, containers: BlobContainers, clock: Clock) -> None:
        self._store, self._containers, self._clock = store, containers, clock
        self.wake: Callable[[], None] = lambda: None
        self.stop: Callable[[str], None] = lambda _job_id: None

    async def create(self, wanted: Wanted) -> TransferJob:
        """Raises BadRequest, EgressRefused for a container that may not be reached, JobQuotaExceeded."""
        for name, url in (("inputBlobContainerUri", wanted.input_url), ("outputBlobContainerUri", wanted.output_url)):
            if name.startswith("input") and wanted.type == "export":
                continue
            if not url or len(url) > _URL_LENGTH:
                raise BadRequest(f"{name} is the URL of a container, with a signature that opens it.")
            await self._containers.check(url)
        job = TransferJob(job_id=uuid.uuid4().hex, created=self._clock.now(), **wanted._asdict())
        await self._store.add(job)
        self.wake()
        return job

    async def get(self, job_id: str) -> TransferJob:
        """Raises JobNotFound."""
        job = await self._store.get(job_id)
        if job is None:
            raise JobNotFound
        return job

    async def list(self) -> Sequence[TransferJob]:
        """The newest first."""
        return await self._store.list(TRANSFERS_LISTED.value)

    async def cancel(self, job_id: str) -> None:
        """What it has done stays done; one that has ended stays as it is. Raises JobNotFound."""
        job = await self.get(job_id)
        if await self._store.put(ended(job, "cancelled", self._clock.now())):
            self.stop(job_id)


def ended(job: TransferJob, status: str, now: float, failure: str = "") -> TransferJob:
    """The job at its end: it needs its containers no more."""
    assert status in TRANSFER_ENDED
    return msgspec.structs.replace(
        job,
        status=status,
        ended=now,
        failure=failure,
        progress=100 if status == "completed" else job.progress,
        input_url=without_signature(job.input_url),
        output_url=without_signature(job.output_url),
    )


def without_signature(url: str) -> str:
    return _SIGNATURE.sub(r"\1hidden", url)
