"""Stand-ins that sometimes store a result and answer late.

A kill between the peer's storage of a result and the arrival of its answer makes the server deliver the result twice.
On loopback this interval is too short to be hit; here it is longer.
"""

import asyncio
import random
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.listener.association import ReceivedInstance
from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.mllp import Peer
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import StandInEhr

HOW_OFTEN: Final = 0.4
LONGEST_S: Final = 0.5

_chance = random.Random(1)


def pause() -> float:
    """Return the delay of an answer in seconds; usually zero."""
    return _chance.uniform(0.0, LONGEST_S) if _chance.random() < HOW_OFTEN else 0.0


class LateEngine(StandInEngine):
    """Stores a message and acknowledges it late."""

    def _take(self, raw: bytes, peer: Peer) -> bytes:
        answer = super()._take(raw, peer)
        time.sleep(pause())
        return answer


class LatePacs(StandInPacs):
    """Stores an instance and answers late."""

    def _keep(self, received: ReceivedInstance) -> None:
        super()._keep(received)
        time.sleep(pause())


class LateEhr(StandInEhr):
    """Commits a transaction and answers late."""

    def _counted(self, app: ASGIApp) -> ASGIApp:
        counted = super()._counted(app)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            async def answer(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await asyncio.sleep(pause())
                await send(message)

            await counted(scope, receive, answer)

        return serve
