"""Load on an interface, from a separate process that does little work itself, so that the server is measured.

Requests are made before the clock starts; each connection sends one, waits for its answer, and sends the next.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

Exchange = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Load:
    """The requests, and the number of connections."""

    port: int
    protocol: str
    """A key of :data:`EXCHANGES`."""
    connections: int
    requests: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measured times."""

    per_second: float
    waits: Sequence[float]
    """Duration of each request, in seconds."""


async def http_exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send one HTTP/1.1 request that asks to keep the connection, and read its 2xx answer to the end."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise ConnectionError(head.split(b"\r\n", 1)[0].decode())
    length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)


async def mllp_exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """Send one framed message and read its positive acknowledgement."""
    writer.write(request)
    answer = await reader.readuntil(b"\x1c\r")
    if b"\rMSA|AA|" not in answer:
        raise ConnectionError("the message was not taken")


EXCHANGES: dict[str, Exchange] = {"http": http_exchange, "mllp": mllp_exchange}
"""Protocol -> the function that sends one request and reads its answer."""


class Loader:
    """The sending process, which is used for all rounds."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def run(self, load: Load) -> Measured:
        """Send all requests once."""
        return self._pool.submit(_run, load).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def _run(load: Load) -> Measured:
    return asyncio.run(_send_all(load))


async def _send_all(load: Load) -> Measured:
    exchange, waits, left = EXCHANGES[load.protocol], list[float](), iter(load.requests)

    async def one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
        for request in left:
            begun = time.perf_counter()
            await exchange(reader, writer, request)
            waits.append(time.perf_counter() - begun)
        writer.close()
        await writer.wait_closed()

    started = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(load.connections)))
    return Measured(per_second=len(waits) / (time.perf_counter() - started), waits=waits)
