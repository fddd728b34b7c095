"""An import or export job: the fleet from or to a container of blobs (service-protocols 2.9)."""

from typing import Final, Literal

import msgspec

TransferType = Literal["import", "export"]
TransferStatus = Literal["enqueued", "running", "completed", "failed", "cancelled"]
TRANSFER_ENDED: Final[frozenset[TransferStatus]] = frozenset({"completed", "failed", "cancelled"})


class TransferJob(msgspec.Struct, frozen=True, kw_only=True):
    """Times: Unix seconds; 0 means not yet.

    *_url: of containers, signed; sealed wherever they rest, without their signature once the job has ended, and never
    part of a repr. Input is of an import alone; its output takes what is refused. progress: per cent.

    How far it came, so that a hub that starts again goes on. etag: of the blob that is read. after: name of the last
    identity that is written. offset: bytes of the blob that are carried out, or devices that are written. blocks: parts
    of the output blob that the container holds. records: carried out. refused: of those.
    """

    job_id: str
    type: TransferType
    created: float
    begun: float = 0.0
    ended: float = 0.0
    status: TransferStatus = "enqueued"
    failure: str = ""
    input_url: str = ""
    input_blob: str = ""
    output_url: str = ""
    output_blob: str = ""
    with_keys: bool = True
    with_configurations: bool = False
    configurations_blob: str = ""
    progress: int = 0
    etag: str = ""
    after: str = ""
    offset: int = 0
    blocks: int = 0
    records: int = 0
    refused: int = 0

    def __repr__(self) -> str:
        return f"TransferJob({self.job_id!r}, {self.type}, {self.status})"
