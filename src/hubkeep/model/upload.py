"""A file that a device uploads, and what back ends are told of it (device-protocols 5.4, service-protocols 4.5)."""

import msgspec


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """What a device was allowed to upload. Times: Unix seconds.

    upload_id: the correlation id, 32 hex digits. blob_name: the device's id, a slash, and the name that it asked for.
    block_list: SHA-256 (hex) of the block list that the file was made of last; empty before. finished: the device said
    how it ended.
    """

    upload_id: str
    device_id: str
    generation_id: str
    blob_name: str
    created: float
    expires: float
    block_list: str = ""
    finished: bool = False


class FileNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a device has uploaded. size: bytes. updated: Unix seconds."""

    device_id: str
    blob_name: str
    size: int
    updated: float
