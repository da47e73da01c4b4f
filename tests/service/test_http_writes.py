"""What the HTTP listener writes to a connection: one write for a response, and no longer wait than HTTP allows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.listeners import header_limits
from service.listeners.header_limits import HeaderLimitProtocol

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Connection(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.writes.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Nothing arrives by itself."""

    def resume_reading(self) -> None:
        """Nothing arrives by itself."""

    def is_closing(self) -> bool:
        return self.closed


class Loop:
    """A clock and its timers, in place of an event loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now, self.timers = 0.0, list[tuple[float, Any]]()
        self.create_task = loop.create_task

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, work: Any) -> "Loop":
        self.timers.append((self.now + delay, work))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        due = [work for at, work in self.timers if at <= self.now]
        self.timers = [(at, work) for at, work in self.timers if at > self.now]
        for work in due:
            work()


async def answer(_scope: Any, receive: Any, send: Send) -> None:
    """Answer with two bytes, once the body has arrived."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def stream(_scope: Any, _receive: Any, send: Send) -> None:
    """Answer in three parts."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    for part in (b"a", b"b", b"c"):
        await send({"type": "http.response.body", "body": part, "more_body": part != b"c"})


async def nothing(_scope: Any, _receive: Any, send: Send) -> None:
    """Answer without content."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def fail(_scope: Any, _receive: Any, send: Send) -> None:
    """Fail between the head and the body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    raise ValueError


def writes(app: Any, *requests: bytes) -> Connection:
    """Send the requests on one connection, and return it."""

    async def exchange() -> Connection:
        config, connection = uvicorn.Config(app, ws="none", lifespan="off", log_config=None), Connection()
        protocol = HeaderLimitProtocol(config, ServerState(), {})
        protocol.connection_made(connection)
        for request in requests:
            protocol.data_received(request)
            while protocol.tasks:
                await asyncio.sleep(0)
        protocol.connection_lost(None)
        return connection

    return asyncio.run(exchange())


GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


def test_head_and_body_of_a_response_are_one_write() -> None:
    first, second = writes(answer, GET, GET).writes
    assert first == second
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n{}")


def test_pipelined_requests_are_answered_in_their_order() -> None:
    assert [write[-2:] for write in writes(answer, GET + GET + GET).writes] == [b"{}"] * 3


def test_a_response_without_a_body_is_written() -> None:
    (head,) = writes(answer, b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n").writes
    assert head.endswith(b"content-length: 2\r\n\r\n")
    (none,) = writes(nothing, GET).writes
    assert none == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_the_last_response_is_written_before_the_connection_closes() -> None:
    connection = writes(answer, b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    assert connection.closed
    assert [write[-2:] for write in connection.writes] == [b"{}"]


def test_a_stream_is_written_part_by_part() -> None:
    first, *rest = writes(stream, GET).writes
    assert first.endswith(b"\r\n\r\na")
    assert rest == [b"b", b"c"]


def test_a_client_that_waits_for_100_continue_gets_it_before_it_sends_the_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"

    async def exchange() -> list[bytes]:
        connection = Connection()
        protocol = HeaderLimitProtocol(
            uvicorn.Config(answer, ws="none", lifespan="off", log_config=None), ServerState(), {}
        )
        protocol.connection_made(connection)
        protocol.data_received(head)
        await asyncio.sleep(0)
        assert connection.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
        protocol.data_received(b"x")
        while protocol.tasks:
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        return connection.writes[1:]

    (response,) = asyncio.run(exchange())
    assert response.endswith(b"\r\n\r\n{}")


def test_a_failure_after_the_head_ends_the_connection() -> None:
    connection = writes(fail, GET)
    assert connection.closed
    assert b"{}" not in b"".join(connection.writes)


def test_a_request_that_is_refused_does_not_get_the_answer_of_the_one_before() -> None:
    """The first answer on a connection is that to its first request: a 431 in its place would hide a stored create."""
    post = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}"
    for refused in (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"nonsense\r\n\r\n"):
        connection = writes(answer, post + refused)
        assert [write[:15] for write in connection.writes] == [b"HTTP/1.1 200 OK"]
        assert connection.closed
        assert writes(answer, post, refused).writes[0].startswith(b"HTTP/1.1 200 OK")


def test_complete_headers_that_are_too_large_are_refused() -> None:
    line, long = b"GET / HTTP/1.1\r\nHost: here\r\n", b"X: " + b"x" * 70_000 + b"\r\n"
    for headers in (long, b"X: x\r\n" * 20_000):
        assert writes(answer, line + headers + b"\r\n").writes[0].startswith(b"HTTP/1.1 431")
    assert writes(answer, line + long[:60_000] + b"\r\n\r\n").writes[0].endswith(b"{}")


@pytest.fixture
def slow() -> Iterator[tuple[HeaderLimitProtocol, Loop, Connection]]:
    loop = asyncio.new_event_loop()
    protocol = HeaderLimitProtocol(
        uvicorn.Config(answer, ws="none", lifespan="off", log_config=None), ServerState(), {}, _loop=loop
    )
    clock, connection = Loop(loop), Connection()
    protocol.loop = clock  # type: ignore[assignment]
    protocol.connection_made(connection)
    yield protocol, clock, connection
    protocol.connection_lost(None)
    while protocol.tasks:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_connection_without_headers_is_closed_in_time(slow: Any) -> None:
    _, clock, connection = slow
    clock.pass_(header_limits.HEADERS_S - 0.1)
    assert not connection.closed
    clock.pass_(0.2)
    assert connection.closed


def test_headers_that_trickle_do_not_gain_time_and_a_new_request_has_all_of_it(slow: Any) -> None:
    protocol, clock, connection = slow
    clock.pass_(7)
    protocol.data_received(b"GET / HTTP/1.1\r\n")  # the request's own time begins
    clock.pass_(4)
    assert not connection.closed
    protocol.data_received(b"Host: here\r\n")
    clock.pass_(5.9)
    assert not connection.closed
    clock.pass_(0.2)
    assert connection.closed


def test_a_connection_whose_headers_are_complete_is_left_alone(slow: Any) -> None:
    protocol, clock, connection = slow
    protocol.data_received(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n")
    clock.pass_(header_limits.HEADERS_S + 1)
    assert not connection.closed
