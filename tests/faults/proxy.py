"""An HTTP proxy in front of a storage server that injects faults into requests.

slow     503 SlowDown; the request does not reach the server
reset    the connection is closed; the request does not reach the server
lost     the server handles the request, and the connection is closed without a response
cut      the connection is closed after half of the response's body
late     the response arrives after the client's time limit
denied   403, as for expired credentials (once `denies_after` PUTs have passed)
"""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator

import aiohttp
from aiohttp import web
from yarl import URL

SLOW_DOWN = (
    '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
)
DENIED = '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
KINDS = ("slow", "reset", "lost", "cut", "late")
LATE_S = 3.0  # clients of these tests wait for one second


class FaultyProxy:
    """A proxy that gives every request the same chance of each fault."""

    def __init__(self, upstream: int, chance: float, seed: int = 0):
        self.upstream = upstream
        self.chance = chance
        self.random = random.Random(seed)
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.denies_after: int | None = None  # number of PUTs that are let through
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        body = await request.read()
        if self.denies_after is not None and request.method == "PUT":
            self.denies_after -= 1
            if self.denies_after < 0:
                self.faults["denied"] += 1
                return web.Response(status=403, text=DENIED, content_type="application/xml")
        kind = self.random.choice(KINDS) if self.random.random() < self.chance else None
        if kind:
            self.faults[kind] += 1
        if kind == "slow":
            return web.Response(status=503, text=SLOW_DOWN, content_type="application/xml")
        if kind == "reset":
            return self.disconnect(request)
        status, headers, content = await self.forward(request, body)
        if kind == "late":
            await asyncio.sleep(LATE_S)
        if kind == "lost":
            return self.disconnect(request)
        if kind == "cut" and len(content) > 1:
            return await self.send_half(request, status, headers, content)
        if request.method == "HEAD":
            return web.Response(status=status, headers=headers)
        headers.pop("Content-Length", None)
        return web.Response(status=status, headers=headers, body=content)

    async def forward(self, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = f"http://127.0.0.1:{self.upstream}{request.raw_path}"
        headers = {k: v for k, v in request.headers.items() if k.lower() not in {"content-length", "transfer-encoding"}}
        async with self.session.request(
            request.method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
        ) as response:
            content = await response.read()
            skipped = {"transfer-encoding", "connection", "content-encoding"}
            return response.status, {k: v for k, v in response.headers.items() if k.lower() not in skipped}, content

    def disconnect(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def send_half(
        self, request: web.Request, status: int, headers: dict[str, str], content: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2])
        self.disconnect(request)
        return response

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        async with aiohttp.ClientSession(auto_decompress=False) as self.session:
            ready.set()
            await stop.wait()
        await runner.cleanup()


@contextlib.contextmanager
def faulty(upstream: int, chance: float) -> Iterator[FaultyProxy]:
    proxy, loop = FaultyProxy(upstream, chance), asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(ready, stop),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
