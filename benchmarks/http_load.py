"""A client that asks for one answer after another on each of its connections, over plain sockets of asyncio."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server and the request that is sent to it."""

    port: int
    path: str
    body: bytes

    def request(self) -> bytes:
        """Return the request as it is sent."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body


def ask(target: Target, connections: int, seconds: float) -> list[float]:
    """Return how long each answer took, in seconds; every one must be a 200."""
    return asyncio.run(_ask(target, connections, seconds))


async def _ask(target: Target, connections: int, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    each = await asyncio.gather(*(_connection(target, until) for _ in range(connections)))
    return [one for taken in each for one in taken]


async def _connection(target: Target, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    request, taken = target.request(), []
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise RuntimeError(head.decode())
        length = int(head.split(b"content-length:")[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        taken.append(time.perf_counter() - start)
    writer.close()
    return taken
