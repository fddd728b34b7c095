"""An aiohttp handler that takes a body and answers 204, on a listener like the hub's: what HTTPS costs by itself."""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import web

from hubkeep.connection import transports
from hubkeep.connection.admission import Admission
from hubkeep.connection.clock import SystemClock
from hubkeep.connection.doors import Door
from hubkeep.connection.turns import Turns
from hubkeep.errors import HubError
from hubkeep.limits import Limits
from hubkeep.model import LinkInfo, Networks


async def _answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response(status=204)


def _unrecorded(error: HubError, link: LinkInfo, *, identity: str, operation: str, **presented: str) -> str:  # noqa: ARG001  # as a listener calls it
    return ""


async def _serve(address: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handlers = web.Server(_answer, access_log=None)  # off, as in the hub
    open_to_all = Door(Networks(), "https", _unrecorded, SystemClock())
    admission = Admission(Limits(), 10_000, lambda _: False)
    server = await transports.listen(
        handlers,
        address,
        0,
        context=context,
        door=open_to_all,
        admission=admission,
        turns=Turns(),
        backlog=100,
        handshake_within=10,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:4]))
