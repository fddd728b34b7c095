"""An aiohttp handler that takes a body and answers 204, on a listener like the hub's: what HTTPS costs by itself."""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import web

from hubkeep.connection import transports


async def _answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response(status=204)


async def _serve(address: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handlers = web.Server(_answer, access_log=None)  # type: ignore[arg-type]  # off, as in the hub
    server = await transports.listen(handlers, address, 0, context=context, backlog=100, handshake_within=10)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:4]))
