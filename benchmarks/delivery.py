"""Deliveries per second after an outage, to an EHR that answers each request after 100 ms.

Run as ``python -m benchmarks.delivery``. The outbox holds results of many patients; the server's worker sends them to
an HTTP server that notes their order.
"""

import asyncio
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import table
from kernel.log import configure_logging
from kernel.outbox import Delivery
from service.application import Application, build
from service.settings import load

PATIENTS: Final = 300
EACH: Final = 2
ANSWERS_AFTER_S: Final = 0.1


class SlowEhr:
    """Answers every transaction after a while, and notes what it got."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int]] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self.port = int(serving.result().sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            bundle = json.loads(await reader.readexactly(length))
            await asyncio.sleep(ANSWERS_AFTER_S)
            self.received.append((bundle["patient"], bundle["number"]))
            answer = b'{"resourceType":"Bundle","entry":[{"response":{"status":"201"}}]}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


def main() -> dict[str, Any]:
    """Measure and print."""
    configure_logging(level="WARNING")
    ehr = SlowEhr()
    with tempfile.TemporaryDirectory() as name:
        settings = load({}, data_dir=Path(name), ehr_url=f"http://127.0.0.1:{ehr.port}/fhir")
        application = build(settings)
        try:
            _queue(application)
            started = time.perf_counter()
            application.worker.start()
            while len(ehr.received) < PATIENTS * EACH:
                time.sleep(0.02)
            seconds = time.perf_counter() - started
        finally:
            application.close()
    in_order = all(
        [number for patient, number in ehr.received if patient == f"p{it}"] == list(range(EACH))
        for it in range(PATIENTS)
    )
    figures = {"per_second": round(PATIENTS * EACH / seconds, 1), "each_patient_in_order": in_order}
    print(table([["deliveries per second", "each patient in order"], [str(value) for value in figures.values()]]))
    return figures


def _queue(application: Application) -> None:
    for number in range(EACH):
        for patient in range(PATIENTS):
            payload = json.dumps({"patient": f"p{patient}", "number": number, "entry": [{}]}).encode()
            delivery = Delivery(
                destination="ehr",
                idempotency_key=f"{patient}-{number}",
                subject=f"benchmark:{patient}-{number}",
                patient=f"Patient/p{patient}",
                payload=payload,
            )
            application.database.write(lambda tx, one=delivery: application.outbox.add(tx, one))  # type: ignore[misc]


if __name__ == "__main__":
    main()
