"""An aiohttp handler that takes a body and answers 204, over TLS: what HTTPS costs in this process by itself."""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import web


async def _answer(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.Response(status=204)


async def _serve(address: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    runner = web.ServerRunner(web.Server(_answer))
    await runner.setup()
    await web.TCPSite(runner, address, 0, ssl_context=context).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*sys.argv[1:4]))
