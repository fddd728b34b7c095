"""Stores of what is done to many devices: jobs, moves, configurations."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from hubkeep.model import (
    Configuration,
    Hold,
    Job,
    JobCounts,
    JobPart,
    PartStatus,
    TransferJob,
)


class JobStore(Protocol):
    """Scheduled jobs with their parts. What is stored is durable when the call returns."""

    async def add(self, job: Job, most: int) -> None:
        """Raises JobAlreadyExists; TooManyJobs: with it more than ``most`` would wait or run."""

    async def get(self, job_id: str) -> Job | None: ...

    async def put(self, job: Job) -> bool:
        """Write its newest state. False: it has ended already (in whatever way), and stays as it ended."""

    async def list(
        self, *, types: Sequence[str], statuses: Sequence[str], after: tuple[float, str] | None, most: int
    ) -> Sequence[Job]:
        """The newest first, behind ``after`` (created, id). Empty types or statuses: any."""

    async def due(self, now: float, most: int) -> Sequence[Job]:
        """Those that run, and behind them those that may begin, the longest waiting first."""

    async def counts(self, job_ids: Sequence[str]) -> Mapping[str, JobCounts]:
        """A job without parts is left out."""

    async def spread(self, job_id: str, targets: Sequence[tuple[str, str]], now: float) -> None:
        """A pending part for each target (device, module) that has none."""

    async def take(self, job_id: str, most: int, now: float) -> Sequence[JobPart]:
        """Make at most ``most`` pending parts running, and return them."""

    async def record(self, parts: Sequence[JobPart]) -> None:
        """Write the newest state of running parts; what runs no more stays as it is."""

    async def settle(self, job_id: str, statuses: Sequence[PartStatus], part: JobPart) -> None:
        """Every part of these statuses becomes as ``part``, which is of no device."""

    async def parts(
        self, *, job_ids: Sequence[str], device_ids: Sequence[str], after: tuple[str, str, str], most: int
    ) -> Sequence[tuple[Job, JobPart]]:
        """By job, device and module, behind ``after``. Empty job_ids or device_ids: any."""

    async def forget(self, ended_before: float) -> None:
        """Jobs that ended before then, with their parts."""


class TransferStore(Protocol):
    """Import and export jobs. Their URLs arrive and leave unsealed; at rest they are sealed. Durable on return."""

    async def add(self, job: TransferJob) -> None:
        """Raises JobQuotaExceeded when one waits or runs."""

    async def get(self, job_id: str) -> TransferJob | None: ...

    async def list(self, most: int) -> Sequence[TransferJob]:
        """The newest first."""

    async def active(self) -> TransferJob | None:
        """The one that waits or runs."""

    async def put(self, job: TransferJob) -> bool:
        """Write its newest state. False: it has ended already (in whatever way), and stays as it ended."""

    async def forget(self, ended_before: float) -> None: ...


class ConfigurationStore(Protocol):
    """Configurations, and the twins (device, module) that they are for. Durable when the call returns."""

    async def add(self, configuration: Configuration, most: int) -> None:
        """It gets its number. Raises ConfigurationAlreadyExists; QuotaExceeded: there would be more than ``most``."""

    async def replace(self, configuration: Configuration, revision: int) -> bool:
        """Where the stored revision is ``revision``. False: it is another one, or the configuration is deleted."""

    async def all(self) -> Sequence[Configuration]:
        """By id, deleted ones included."""

    async def forget_deleted(self) -> None:
        """Those that no twin is held by any more."""

    async def holds(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Hold]]:
        """A twin without any is left out."""

    async def change_holds(self, held: Sequence[Hold], released: Sequence[Hold]) -> None:
        """In one transaction."""

    async def counts(self) -> Mapping[int, tuple[int, int]]:
        """By number: twins targeted, and of them those applied. Without any it is left out."""

    async def statuses(self, twins: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """Configuration ids to status, for each of these twins that has any."""
