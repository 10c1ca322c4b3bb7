"""What the server refuses before it looks: other hosts, other origins, too much."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fli2moe.app.server import MOST_BYTES

HOSTS = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Lets through what this machine's own page asks for.

    A page of another site may point a browser here; its requests carry another `Origin`, or (by a
    name that resolves to this machine) another `Host`. Both are refused, and so is a body of more
    than 32 MiB, whatever its length claims to be.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with 403 or 413, or hands the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        host = headers.get("host", "")
        origin = headers.get("origin", f"http://{host}")
        # a frame without an origin of its own says `null`; it only ever reads
        if _name(host) not in HOSTS or (scope["method"] != "GET" and origin != f"http://{host}"):
            await PlainTextResponse("not from here\n", 403)(scope, receive, send)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            await PlainTextResponse("too large\n", 413)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                return {"type": "http.disconnect"}
            return message

        await self.app(scope, counted, send)


def _name(host: str) -> str:
    """A host without its port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
