"""Jobs and their parts as service clients and queries see them. Source: service-protocols 2.10."""

from typing import Any, Final

from hubkeep.model import Job, JobCounts, JobPart, JobType, time_stamp

# where a back end puts what is to be done
TASKS: Final[dict[JobType, str]] = {"scheduleDeviceMethod": "cloudToDeviceMethod", "scheduleUpdateTwin": "updateTwin"}


def job_document(job: Job, counts: JobCounts) -> dict[str, Any]:
    """The job response."""
    return {
        "jobId": job.job_id,
        "queryCondition": job.condition,
        "createdTime": time_stamp(job.created),
        "startTime": time_stamp(job.begun or job.start),
        "endTime": time_stamp(job.ended) if job.ended else None,
        "maxExecutionTimeInSeconds": job.max_seconds,
        "type": job.type,
        **{name: job.task if job.type == kind else None for kind, name in TASKS.items()},
        "status": job.status,
        "failureReason": job.failure or None,
        "statusMessage": None,
        "deviceJobStatistics": {
            "deviceCount": counts.total,
            "failedCount": counts.failed,
            "succeededCount": counts.completed,
            "runningCount": counts.running,
            "pendingCount": counts.pending,
        },
    }


def unknown_document(job_id: str) -> dict[str, Any]:
    """What is said of a job of another kind, an import or export: clients then ask for it where such jobs are."""
    never = time_stamp(0.0)
    return {
        "jobId": job_id,
        "queryCondition": "",
        "createdTime": never,
        "startTime": never,
        "endTime": None,
        "maxExecutionTimeInSeconds": 0,
        "type": "unknown",
        **dict.fromkeys(TASKS.values()),
        "status": "unknown",
        "failureReason": None,
        "statusMessage": None,
        "deviceJobStatistics": dict.fromkeys(
            ("deviceCount", "failedCount", "succeededCount", "runningCount", "pendingCount"), 0
        ),
    }


def part_document(job: Job, part: JobPart) -> dict[str, Any]:
    """A row of ``FROM devices.jobs``."""
    document: dict[str, Any] = {"deviceId": part.device_id}
    if part.module_id:
        document["moduleId"] = part.module_id
    document |= {
        "jobId": job.job_id,
        "jobType": job.type,
        "status": part.status,
        "startTimeUtc": time_stamp(part.started),
        "endTimeUtc": time_stamp(part.ended),
        "createdDateTimeUtc": time_stamp(job.created),
        "lastUpdatedDateTimeUtc": time_stamp(part.updated),
        "outcome": {"deviceMethodResponse": part.answer},
    }
    if part.error is not None:
        document["error"] = part.error
    return document
