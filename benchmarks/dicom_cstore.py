"""C-STORE instances per second: Ausculta's complete server, Orthanc and plain pynetdicom, in the same run.

Ausculta (``ausculta serve``) answers after sealing the bytes (AES-256-GCM), the durable write of its file, and the
durable commit of index, job and audit event. Orthanc syncs its file (``SyncStorageArea``) and writes its SQLite index;
it encrypts nothing and has no audit log. Plain pynetdicom writes ``encoded_dataset()`` to a file without fsync, index
or encryption. Each has a process of its own; rounds alternate between them. Printed are medians, their ratios, and the
CPU time of the server for each instance.

DCMTK's ``storescu`` sends, one process for each association, with ``TCP_NODELAY=1``: without it a receiver loses 40 ms
for each instance because of Nagle's algorithm, and the comparison would favour Ausculta. Orthanc is left out, with a
sentence, where it is not installed (Debian's package ``orthanc``).

    python -m benchmarks.dicom_cstore [--instances 300] [--kilobytes 512] [--associations 1 4] [--than PATH]
"""

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt

from benchmarks.measure import ratio, table
from benchmarks.processes import ServerProcess, free_ports
from dicom_node.encoding import open_file
from dicom_node.scu import Peer, send
from dicom_node.synthesise import ChestXRay, chest_x_ray

STORESCU = Path("/usr/bin/storescu")
ORTHANC = Path("/usr/sbin/Orthanc")
PDU = 128 * 1024


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A running storage provider."""

    port: int
    process: int

    def cpu_ms(self) -> float:
        """Return the CPU time that the process and its children have used, in milliseconds; user and system."""
        ticks = 0
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = place.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if str(self.process) in {place.parent.name, fields[1]}:
                ticks += int(fields[11]) + int(fields[12])
        return ticks * 1000 / os.sysconf("SC_CLK_TCK")


@contextmanager
def ausculta(folder: Path, program: Path | None = None) -> Iterator[Provider]:
    """Run the complete server; its study does not come to rest, so that no model runs beside the reception."""
    server = ServerProcess(folder, {"DICOM_STUDY_QUIET_S": "3600"}, program=program)
    server.start()
    try:
        server.wait_ready()
        yield Provider(port=server.ports.dicom, process=server.pid)
    finally:
        server.kill()


@contextmanager
def orthanc(folder: Path) -> Iterator[Provider]:
    """Run Orthanc with its own defaults, but the size of a PDU; its files are synced by default."""
    port = free_ports().dicom
    settings = {
        "StorageDirectory": str(folder / "files"),
        "IndexDirectory": str(folder / "files"),
        "HttpServerEnabled": False,
        "DicomServerEnabled": True,
        "DicomPort": port,
        "DicomCheckCalledAet": False,
        "MaximumPduLength": PDU,
        "SyncStorageArea": True,
    }
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, configuration], stdout=log, stderr=log, env=_with_no_delay())
    try:
        yield Provider(port=port, process=process.pid)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def plain(folder: Path) -> Iterator[Provider]:
    """Run pynetdicom with the shortest handler."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_plain, args=(folder, theirs), daemon=True)
    process.start()
    try:
        yield Provider(port=ours.recv(), process=process.pid or 0)
    finally:
        ours.send("stop")
        process.join(10)


def _serve_plain(folder: Path, control: Connection) -> None:
    def keep(event: evt.Event) -> int:
        (folder / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    entity = AE("SCP")
    entity.maximum_pdu_size = PDU
    entity.supported_contexts = [build_context(dataset().SOPClassUID)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    control.send(server.server_address[1])
    control.recv()
    server.shutdown()


def dataset(kilobytes: int = 512) -> Dataset:
    """Return an instance with so many KiB of pixels."""
    return open_file(chest_x_ray(ChestXRay(rows=kilobytes, columns=512, bits=16)))


def files(folder: Path, template: Dataset, count: int, run: int) -> Path:
    """Write new instances: a repeated one would be recognised and not stored.

    Parameters
    ----------
    folder
        Where a folder for them is made.
    template
        The instance of which they are copies, with UIDs of their own.
    count
        How many.
    run
        Number of the run, once in a process.
    """
    made = folder / f"run-{run}"
    made.mkdir()
    for number in range(count):
        template.SOPInstanceUID = f"2.25.{run * 1_000_000 + number + 1}"
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        template.save_as(made / f"{number}.dcm")
    return made


def send_all(folders: Sequence[Path], port: int) -> float:
    """Send each folder over an association of its own, all at once; return the seconds until all are answered."""
    if not STORESCU.exists():
        (folder,) = folders
        contents = [path.read_bytes() for path in sorted(folder.iterdir())]
        started = time.perf_counter()
        send(contents, Peer(ae_title="SCP", host="127.0.0.1", port=port))
        return time.perf_counter() - started
    command = [str(STORESCU), "--max-send-pdu", str(PDU), "+sd", "127.0.0.1", str(port)]
    started = time.perf_counter()
    senders = [subprocess.Popen([*command, str(folder)], env=_with_no_delay()) for folder in folders]
    if any(sender.wait() for sender in senders):
        msg = "an instance was not taken"
        raise SystemExit(msg)
    return time.perf_counter() - started


def _with_no_delay() -> dict[str, str]:
    return {**os.environ, "TCP_NODELAY": "1"}


def await_port(port: int) -> None:
    """Wait until somebody listens on a port."""
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    msg = "a server does not listen"
    raise SystemExit(msg)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kilobytes", type=int, default=512)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4] if STORESCU.exists() else [1])
    parser.add_argument("--than", type=Path, help="the ausculta command of another version, to compare with")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        starts: dict[str, Callable[[Path], AbstractContextManager[Provider]]]
        starts = {"Ausculta": ausculta, "Orthanc": orthanc, "plain pynetdicom": plain}
        if not ORTHANC.exists():
            del starts["Orthanc"]
            print("Orthanc is not installed: it is left out.", file=sys.stderr)
        if wanted.than:
            starts["other version"] = lambda place: ausculta(place, wanted.than)
        providers = {}
        for server, start in starts.items():
            place = folder / server.replace(" ", "-")
            place.mkdir()
            providers[server] = stack.enter_context(start(place))
        for provider in providers.values():
            await_port(provider.port)
        run = 0
        for associations in wanted.associations:
            run = _compare(providers, folder, wanted, associations, run)


def _compare(
    providers: dict[str, Provider], folder: Path, wanted: argparse.Namespace, associations: int, run: int
) -> int:
    """Measure and print one number of associations; return the number of the last run."""
    template = dataset(wanted.kilobytes)
    rates: dict[str, list[float]] = {name: [] for name in providers}
    cpu: dict[str, list[float]] = {name: [] for name in providers}
    for number in range(wanted.rounds + 1):  # the first round is a warm-up for all
        for name in list(providers)[:: 1 if number % 2 else -1]:
            made = []
            for _ in range(associations):
                run += 1
                made.append(files(folder, template, wanted.instances // associations, run))
            os.sync()
            sent = wanted.instances // associations * associations
            before = providers[name].cpu_ms()
            seconds = send_all(made, providers[name].port)
            if number:
                rates[name].append(sent / seconds)
                cpu[name].append((providers[name].cpu_ms() - before) / sent)
            for place in made:
                shutil.rmtree(place)
    first = next(iter(providers))
    rows = [("", "instances/s", "ratio", "server's CPU ms")]
    for name, figures in rates.items():
        shown = "" if name == first else f"{ratio(rates, first, name):.2f}"
        rows.append((name, f"{statistics.median(figures):.0f}", shown, f"{statistics.median(cpu[name]):.2f}"))
    print(f"{associations} association(s), {wanted.rounds} rounds of {wanted.instances} of {wanted.kilobytes} KiB")
    print(table(rows), flush=True)
    return run


if __name__ == "__main__":
    main()
