"""The hub without its audit, which no setting turns off: what stands beside it shows what the audit costs."""

from hubkeep.cli.main import main
from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.model import AuditEntry


class _Unaudited:
    """In place of AuditTrail's: nothing is noted."""

    def note(self, entry: AuditEntry) -> None: ...

    async def record(self, entry: AuditEntry) -> None: ...


if __name__ == "__main__":
    AuditTrail.note = _Unaudited.note  # type: ignore[method-assign, assignment]
    AuditTrail.record = _Unaudited.record  # type: ignore[method-assign, assignment]
    main()
