"""Senders that behave like hospital systems: each repeats an item until it gets a receipt, then sends the next one."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from benchmarks.items import MAKERS, Interface, Item
from benchmarks.processes import Ports
from dicom_node import scu
from fhir_adapter.hl7v2 import client as mllp
from kernel.errors import Category, Problem

PAUSE_S: Final[Mapping[Interface, float]] = {Interface.HL7: 0.25, Interface.FHIR: 0.25, Interface.DICOM: 1.5}
"""Longest pause between two items of one sender; an X-ray costs the server more than a message."""

RETRY_S: Final = 0.1

_RETRIED: Final = frozenset({Category.BUSY, Category.UNAVAILABLE, Category.INTERRUPTED})


@dataclass(frozen=True, kw_only=True)
class Transport:
    """How one sender reaches the server."""

    send: Callable[[bytes], object]
    """Returns when there is a receipt; raises :class:`~kernel.errors.Problem` otherwise."""
    close: Callable[[], None]


class Ledger:
    """The items that were acknowledged, the attempts, and the permanent refusals."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._acknowledged: dict[str, Item] = {}
        self.tries: Counter[Interface] = Counter()
        self.refused: list[str] = []

    def tried(self, item: Item) -> None:
        """Count an attempt."""
        with self._guard:
            self.tries[item.interface] += 1

    def acknowledge(self, item: Item) -> None:
        """Record a receipt."""
        with self._guard:
            self._acknowledged[item.key] = item

    def refuse(self, item: Item, reason: str) -> None:
        """Record a permanent refusal; a valid item must never get one."""
        with self._guard:
            self.refused.append(f"{item.interface} {item.key}: {reason}")

    def items(self) -> list[Item]:
        """Return the acknowledged items."""
        with self._guard:
            return list(self._acknowledged.values())

    def counts(self) -> dict[Interface, int]:
        """Return how many items of each interface were acknowledged."""
        counted = Counter(item.interface for item in self.items())
        return {interface: counted[interface] for interface in Interface}


class Sender:
    """One sending system.

    Parameters
    ----------
    interface
        The interface that it uses.
    name
        Distinguishes it from other senders of the same interface; part of its patients' numbers.
    ports
        Ports of the server, the same after each restart.
    ledger
        Records the receipts.
    seed
        Seed of the pauses.
    admit
        Called with each item before it is first sent.
    """

    def __init__(
        self, interface: Interface, name: str, ports: Ports, ledger: Ledger, *, seed: int, admit: Callable[[Item], None]
    ) -> None:
        self._interface = interface
        self._name = name
        self._ledger = ledger
        self._admit = admit
        self._random = random.Random(seed)
        self._transport = TRANSPORTS[interface](ports)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"sender-{interface}-{name}", daemon=True)

    def start(self) -> None:
        """Start to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no further item; the current one is still completed."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the last receipt; return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        for number in itertools.count(1):
            if self._stopping.wait(self._random.uniform(0, PAUSE_S[self._interface])):
                self._transport.close()
                return
            item = MAKERS[self._interface](self._name, number)
            self._admit(item)
            self._send_until_acknowledged(item)

    def _send_until_acknowledged(self, item: Item) -> None:
        while True:
            self._ledger.tried(item)
            try:
                self._transport.send(item.payload)
            except Problem as problem:
                if problem.category not in _RETRIED:
                    self._ledger.refuse(item, problem.detail)
                    return
                time.sleep(RETRY_S)
            else:
                self._ledger.acknowledge(item)
                return


def mllp_transport(ports: Ports) -> Transport:
    """Send over one persistent MLLP connection."""
    client = mllp.MllpClient("127.0.0.1", ports.mllp, mllp.Timeouts(connect_s=2.0, answer_s=20.0))
    return Transport(send=client.send, close=client.close)


def fhir_transport(ports: Ports) -> Transport:
    """POST transactions over one keep-alive connection."""
    client = httpx.Client(base_url=f"http://127.0.0.1:{ports.http}", timeout=20.0)

    def send(payload: bytes) -> object:
        try:
            answer = client.post("/fhir", content=payload, headers={"Content-Type": "application/fhir+json"})
        except httpx.HTTPError as failure:
            raise Problem(Category.UNAVAILABLE, "no answer") from failure
        if answer.status_code == 200:
            return answer
        again = answer.status_code in {429, 503}
        raise Problem(Category.BUSY if again else Category.INCORRECT, f"HTTP {answer.status_code}")

    return Transport(send=send, close=client.close)


def dicom_transport(ports: Ports) -> Transport:
    """Send each instance over its own association."""
    peer = scu.Peer(ae_title="AUSCULTA", host="127.0.0.1", port=ports.dicom, calling_ae="MODALITY")
    timeouts = scu.Timeouts(connect_s=2.0, associate_s=10.0, answer_s=20.0)
    return Transport(send=lambda payload: scu.send([payload], peer, timeouts), close=lambda: None)


TRANSPORTS: Final = {Interface.HL7: mllp_transport, Interface.FHIR: fhir_transport, Interface.DICOM: dicom_transport}
"""Interface -> the function that opens its transport."""
