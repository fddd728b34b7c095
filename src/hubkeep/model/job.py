"""A scheduled job over the fleet, and its part for each device or module (service-protocols 2.10)."""

from typing import Final, Literal, NamedTuple

import msgspec

from .twin import Json

JobType = Literal["scheduleDeviceMethod", "scheduleUpdateTwin"]
JobStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
PartStatus = Literal[
    "pending", "running", "completed", "failed", "canceled"
]  # one l less than a job's, as clients know
JOB_ENDED: Final[frozenset[JobStatus]] = frozenset({"completed", "failed", "cancelled"})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Times: Unix seconds; 0 means not yet.

    task: ``cloudToDeviceMethod`` or ``updateTwin`` as the back end sent it. start: when it may begin. begun: when it
    did. max_seconds: from then on. is_spread: every target has its part.
    """

    job_id: str
    type: JobType
    task: Json
    condition: str
    created: float
    start: float
    max_seconds: int
    begun: float = 0.0
    ended: float = 0.0
    status: JobStatus = "queued"
    failure: str = ""
    is_spread: bool = False


class JobPart(msgspec.Struct, frozen=True, kw_only=True):
    """What a job does at one identity. Times: Unix seconds; 0 means not yet.

    answer: of a method, ``{"status": ..., "payload": ...}``. error: ``{"code": ..., "description": ...}``.
    """

    job_id: str
    device_id: str
    module_id: str = ""
    status: PartStatus = "pending"
    started: float = 0.0
    ended: float = 0.0
    updated: float = 0.0
    answer: Json | None = None
    error: Json | None = None


class JobCounts(NamedTuple):
    """Parts of a job by status."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0

    @property
    def total(self) -> int:
        return sum(self)
