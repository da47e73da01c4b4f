"""Speed of parsing, converting and acknowledging HL7 v2: ``python benchmarks/hl7v2_mllp.py``.

The message is an ORU^R01 with 30 OBX. Reading and converting are timed on one thread of this process, best of five
rounds. The round trip runs against a server with a handler that answers immediately, so it measures framing, the
hand-over to a thread and back, and the loopback; one other process sends, with one outstanding message per connection.
"""

import multiprocessing
import selectors
import socket
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import hl7

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.framing import frame
from fhir_adapter.hl7v2.header import header
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import convert
from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer, Peer
from fhir_adapter.hl7v2.synthesise import LabResult, SyntheticPatient, oru_labs
from fhir_adapter.hl7v2.wire import dumps
from fhir_adapter.patient_identity import IdentifierConventions, PatientIdentities
from kernel.clock import RandomIds, SystemClock
from privacy.pseudonyms import Pseudonyms

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
ANN = SyntheticPatient(mrn="7", authority="GEN", family="Doe", given="Ann", birth_date=date(1950, 2, 3), sex="F")
RESULTS = [
    LabResult(code=f"{2000 + number}-0", display=f"Analyte number {number}", value=f"{number}.50", unit="mmol/L")
    for number in range(30)
]


def rate(work: Callable[[], object], seconds: float = 0.5) -> float:
    """Return calls per second, the best of five rounds."""
    best = 0.0
    for _ in range(5):
        calls, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds:
            work()
            calls += 1
        best = max(best, calls / spent)
    return best


def drive(
    port: int, connections: int, seconds: float, framed: bytes, results: "multiprocessing.Queue[list[float]]"
) -> None:
    """Send the next message on each connection when the last is answered; put the round trip times in seconds."""
    chooser = selectors.DefaultSelector()
    for _ in range(connections):
        opened = socket.create_connection(("127.0.0.1", port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(framed)
        chooser.register(opened, selectors.EVENT_READ, [time.perf_counter()])
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for key, _ in chooser.select():
            sender = key.fileobj
            assert isinstance(sender, socket.socket)
            if sender.recv(65_536).endswith(b"\x1c\r"):
                times.append(time.perf_counter() - key.data[0])
                key.data[0] = time.perf_counter()
                sender.sendall(framed)
    results.put(times)


def round_trips(connections: int, message: bytes, seconds: float = 3.0) -> list[float]:
    ids = RandomIds()

    async def at_once(raw: bytes, _peer: Peer) -> bytes:
        return acknowledge(raw, "AA", control_id=ids.new(), at=AT)

    server = MllpServer(at_once, limits=MllpLimits(workers=4), clock=SystemClock(), ids=ids)
    server.start("127.0.0.1", 0)
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=drive, args=(server.port, connections, seconds, frame(message), results))
    process.start()
    times = sorted(results.get(timeout=seconds + 30))
    process.join()
    server.close()
    return times


def main() -> None:
    raw = oru_labs(ANN, RESULTS, "M1", AT)
    pseudonyms = Pseudonyms(b"k" * 32)
    identities = PatientIdentities(IdentifierConventions(default_authority="GEN"), pseudonyms)
    context = Context(pseudonyms=pseudonyms, identities=identities, zone=AT.tzinfo)
    text = raw.decode()
    print(f"message: {len(raw)} bytes, 30 OBX")
    print(f"header          {rate(lambda: header(raw)):10,.0f} /s")
    print(f"acknowledge     {rate(lambda: acknowledge(raw, 'AA', control_id='A', at=AT)):10,.0f} /s")
    print(f"Message.parse   {rate(lambda: Message.parse(raw)):10,.0f} /s")
    print(f"hl7.parse       {rate(lambda: hl7.parse(text)):10,.0f} /s   (the hl7 package, for comparison)")
    print(f"parse, convert  {rate(lambda: convert(Message.parse(raw), context)):10,.0f} /s")
    print(f"... and dumps   {rate(lambda: dumps(convert(Message.parse(raw), context).bundle)):10,.0f} /s")
    for connections in (1, 16):
        times = round_trips(connections, raw)
        middle, late = (
            timedelta(seconds=times[int(len(times) * part)]) / timedelta(milliseconds=1) for part in (0.5, 0.99)
        )
        print(f"MLLP {connections:2} conn.   {len(times) / 3:10,.0f} /s   p50 {middle:.2f} ms, p99 {late:.2f} ms")


if __name__ == "__main__":
    main()
