"""An MLLP server of the ``hl7`` package that parses each message, acknowledges it, and stores nothing.

Run as ``python -m benchmarks.plain_mllp PORT``.
"""

import asyncio
import sys

from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server


async def answer(reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
    """Acknowledge each message of a connection."""
    while not writer.is_closing():
        try:
            message = await reader.readmessage()
        except (asyncio.IncompleteReadError, ConnectionError):
            break
        writer.writemessage(message.create_ack())
        await writer.drain()


async def serve(port: int) -> None:
    """Serve for ever."""
    async with await start_hl7_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
