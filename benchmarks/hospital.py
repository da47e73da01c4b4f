"""The systems around the server, in the process of the harness: EHR, interface engine and PACS, each a real server."""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from benchmarks.items import IDENTIFIER_SYSTEM, Item
from benchmarks.late import LateEhr, LateEngine, LatePacs
from benchmarks.processes import Read, ServerProcess
from benchmarks.verdict import EHR, ENGINE, PACS, STORE, Evidence
from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import StandInEhr

RESULT_SYSTEM: Final = "urn:ausculta:result"

_REPORT: Final = "1.2.840.10008.5.1.4.1.1.88.34"
"""Comprehensive 3D SR Storage."""
_AI_ASSERTED: Final = "AIAST"
_PLACES: Final[Mapping[str, str]] = {"ehr": EHR, "engine": ENGINE, "pacs": PACS}
"""Destination -> the place that a verdict names."""
_SETTLED_S: Final = 2.0
"""Seconds without any delivery before the evidence is gathered."""


class Hospital:
    """The three systems that receive results.

    Parameters
    ----------
    folder
        Folder of the EHR's database.
    """

    def __init__(self, folder: Path) -> None:
        self.ehr = LateEhr(folder / "ehr")
        self.engine = LateEngine()
        self.pacs = LatePacs().start()

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which a server delivers to them."""
        peer = self.pacs.peer
        return {
            "EHR_URL": self.ehr.url,
            "INTERFACE_ENGINE": f"127.0.0.1:{self.engine.port}",
            "PACS": f"{peer.ae_title}@{peer.host}:{peer.port}",
        }

    def admit(self, item: Item) -> None:
        """Store a patient in the EHR, before the patient's first measurement."""
        identifier = {"system": IDENTIFIER_SYSTEM, "value": item.mrn}
        self.ehr.put({"resourceType": "Patient", "id": item.mrn, "identifier": [identifier]})

    def repeats(self) -> dict[str, int]:
        """Return how many repeated deliveries each stand-in received."""
        arrivals, results = self.pacs.arrivals, _in_ehr(self.ehr)
        return {
            "ehr": self.ehr.requests - sum(len(found) for found in results.values()),
            "engine": self.engine.deliveries - len(self.engine.received()),
            "pacs": sum(arrivals.values()) - len(arrivals),
        }

    def received(self) -> int:
        """Return how many deliveries arrived at the three stand-ins, repeats included."""
        return self.ehr.requests + self.engine.deliveries + sum(self.pacs.arrivals.copy().values())

    def close(self) -> None:
        """Close all three."""
        self.pacs.close()
        self.engine.close()
        self.ehr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def drain(server: ServerProcess, received: Callable[[], int], *, patience_s: float, longest_s: float = math.inf) -> int:
    """Wait until no job and no delivery is left, as long as there is progress; return how many are left.

    Progress means that fewer jobs and deliveries wait than at any time before, that one more message was converted or
    result made, or that a stand-in has received one more: each may queue others, so the number alone says little.

    Parameters
    ----------
    server
        The running server.
    received
        Counts what arrived at the stand-ins.
    patience_s
        Longest time without progress.
    longest_s
        Longest wait.
    """
    began = progressed = time.monotonic()
    fewest, most, left, quiet_since = math.inf, -1, 0, None
    while (now := time.monotonic()) < min(progressed + patience_s, began + longest_s):
        left, arrived = waiting(server)["open"], received() + _completed(server)
        if left < fewest or arrived > most:
            fewest, most, progressed = min(left, fewest), arrived, now
        if left:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since > _SETTLED_S:
            return 0
        time.sleep(0.2)
    return left


def _completed(server: ServerProcess) -> int:
    """Return how many messages were converted and results made; neither ever falls."""
    queries = ("SELECT count(*) FROM inbox WHERE state <> 'received'", "SELECT count(*) FROM results")
    with server.snapshot() as read:
        return sum(int(count) for query in queries for (count,) in read(query))


def waiting(server: ServerProcess) -> dict[str, int]:
    """Return how many jobs and deliveries are open, and how many are parked, from the server's metrics."""
    counted = {"open": 0, "parked": 0}
    for line in httpx.get(f"{server.url}/metrics", timeout=30.0).text.splitlines():
        name, _, value = line.rpartition(" ")
        if not name.startswith(("ausculta_jobs{", "ausculta_deliveries{")):
            continue
        if 'status="parked"' in name:
            counted["parked"] += int(value)
        elif not any(f'status="{done}"' in name for done in ("delivered", "dismissed", "superseded")):
            counted["open"] += int(value)
    return counted


def gather(hospital: Hospital, server: ServerProcess, *, unfinished: int = 0) -> Evidence:
    """Gather the evidence from all systems while the server runs and is idle, or no longer makes progress."""
    on_the_way = _on_the_way(server)  # read first: a delivery that is sent meanwhile is then found at the stand-in
    return Evidence(
        on_the_way=on_the_way,
        stored=_stored(server),
        ehr=_in_ehr(hospital.ehr),
        engine=_at_engine(hospital.engine),
        pacs=_in_pacs(hospital.pacs),
        parked=waiting(server)["parked"],
        unfinished=unfinished,
        audit_is_whole=server.command("audit", "verify").returncode == 0,
    )


def _stored(server: ServerProcess) -> dict[str, int]:
    """Count each patient's Observations over HTTP, and the instances in the index and the blobs.

    Patients are read last: a server that has not come to rest may store another one while the others are read.
    """
    counted: Counter[str] = Counter()
    for observation in _search(server, "Observation"):
        if not _is_ours(observation):
            counted[observation["subject"]["reference"]] += 1
    kept = _kept_instances(server)
    for study in _search(server, "ImagingStudy"):
        counted[study["subject"]["reference"]] += kept[_uid(study)]
    mrns = {f"Patient/{patient['id']}": _mrn(patient) for patient in _search(server, "Patient")}
    stored: Counter[str] = Counter()
    for reference, count in counted.items():
        stored[mrns[reference]] += count
    return dict(stored)


def _on_the_way(server: ServerProcess) -> dict[str, frozenset[str]]:
    """Read pending and parked work from the server's database: the patients, and the destinations of the results."""
    mrns = {f"Patient/{patient['id']}": _mrn(patient) for patient in _search(server, "Patient")}
    with server.snapshot() as read:  # work that progresses meanwhile is not missed between two reads
        return find_on_the_way(read, mrns, _blobs(read, server.data))


def find_on_the_way(read: Read, mrns: Mapping[str, str], blobs: Collection[str]) -> dict[str, frozenset[str]]:
    """Return, for each place, the patients and items for which the database still holds work.

    Parameters
    ----------
    read
        Reads the server's database.
    mrns
        Reference of a patient -> the patient's number.
    blobs
        The files of which the bytes are stored: an instance without them is lost, whatever waits for it.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for destination, patient in read("SELECT destination, patient FROM outbox WHERE status IN ('pending', 'parked')"):
        found[_PLACES[destination]].add(mrns.get(patient, ""))
    unconverted = list(read("SELECT key FROM inbox WHERE state <> 'done'"))
    for place in (STORE, *_PLACES.values()):
        found[place].update(key for (key,) in unconverted)
    concerned = {str(value) for (payload,) in read("SELECT payload FROM jobs") for value in _values(payload)}
    instances = list(read('SELECT "SOPInstanceUID", "StudyInstanceUID", blob FROM instances'))
    waiting_instances = {instance for instance, study, blob in instances if study in concerned and blob in blobs}
    found[STORE].update(waiting_instances)  # the ImagingStudy is stored by the job that reads the study
    for place in _PLACES.values():
        found[place].update(mrn for patient, mrn in mrns.items() if patient in concerned)
        found[place].update(waiting_instances)
    return {place: frozenset(names - {""}) for place, names in found.items()}


def _values(payload: str) -> Iterable[object]:
    values: Iterable[object] = json.loads(payload).values()
    return values


def _kept_instances(server: ServerProcess) -> Counter[str]:
    """Count the instances of each study whose bytes are stored."""
    counted: Counter[str] = Counter()
    with server.snapshot() as read:
        blobs = _blobs(read, server.data)
        for study, blob in read('SELECT "StudyInstanceUID", blob FROM instances'):
            counted[study] += blob in blobs
    return counted


def _blobs(read: Read, data: Path) -> set[str]:
    """Return the addresses of the blobs that are stored, in files and in the database."""
    small = {str(address) for (address,) in read("SELECT address FROM small_blobs")}
    return small | {path.parent.name + path.name for path in (data / "blobs").rglob("*") if path.is_file()}


def _search(server: ServerProcess, kind: str) -> Iterator[dict[str, Any]]:
    """Yield every resource of a type, page by page."""
    url: str | None = f"{server.url}/fhir/{kind}?_count=200"
    with httpx.Client(timeout=60.0) as client:
        while url is not None:
            answer = client.get(url)
            answer.raise_for_status()
            page = answer.json()
            yield from (entry["resource"] for entry in page.get("entry", ()))
            url = next((link["url"] for link in page.get("link", ()) if link["relation"] == "next"), None)


def _in_ehr(ehr: StandInEhr) -> Mapping[str, tuple[str, ...]]:
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for kind in ("RiskAssessment", "DiagnosticReport"):
        for resource in ehr.received(kind):
            patient = str(resource["subject"]["reference"]).removeprefix("Patient/")
            found[patient] += (_result(resource),)
    return dict(found)


def _at_engine(engine: StandInEngine) -> Mapping[str, tuple[str, ...]]:
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for message in engine.received():
        patient, order = message.first("PID"), message.first("OBR")
        assert patient is not None
        assert order is not None
        found[patient.get(3, component=1)] += (order.get(3, component=1),)
    return dict(found)


def _in_pacs(pacs: StandInPacs) -> Mapping[str, tuple[str, ...]]:
    found: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for uid in pacs.arrivals:
        dataset = pacs.dataset(uid)
        if dataset.SOPClassUID == _REPORT:
            found[str(dataset.PatientID)] += (uid,)
    return dict(found)


def _mrn(patient: dict[str, Any]) -> str:
    return str(patient["identifier"][0]["value"])


def _uid(study: dict[str, Any]) -> str:
    return next(
        str(it["value"]).removeprefix("urn:oid:") for it in study["identifier"] if it.get("system") == "urn:dicom:uid"
    )


def _is_ours(resource: dict[str, Any]) -> bool:
    return any(label.get("code") == _AI_ASSERTED for label in resource.get("meta", {}).get("security", ()))


def _result(resource: dict[str, Any]) -> str:
    return next(str(it["value"]) for it in resource["identifier"] if it.get("system") == RESULT_SYSTEM)
