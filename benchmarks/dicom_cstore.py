"""C-STORE instances per second: Ausculta's complete listener compared with plain pynetdicom, in the same run.

Ausculta answers after sealing (AES-256-GCM), fsync of the file and its folder, and the durable commit of the index.
Plain pynetdicom writes ``encoded_dataset()`` to a file and answers, with no fsync, no index and no encryption. Each
server has a process of its own; rounds alternate between them, and medians and their ratio are printed. A DCMTK
``storescu`` is run with ``TCP_NODELAY=1``: without it a plain receiver loses 40 ms for each instance because of Nagle's
algorithm, and the comparison would favour Ausculta.

    python benchmarks/dicom_cstore.py [--instances 200] [--rounds 5] [--kilobytes 512]
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt

from dicom_node.archive import Archive
from dicom_node.encoding import open_file
from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.server import DicomServer, StorageHandlers
from dicom_node.scu import Peer, send
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.store.upgrade import prepare_database
from kernel.blobs import Blobs
from kernel.clock import SystemClock
from kernel.db import Database
from privacy.keys import KeyRing

STORESCU = Path("/usr/bin/storescu")
PDU = 128 * 1024


def ausculta(folder: Path, control: Connection) -> None:
    keys = KeyRing.open_or_create(folder / "keys.json")
    database = Database.open(f"sqlite:///{folder}/ausculta.db")
    prepare_database(database)
    archive = Archive(database, Blobs(folder / "blobs", keys.cipher()), SystemClock())
    server = DicomServer(
        "SCP",
        StorageHandlers(
            store=lambda received: discard(archive.add(received, on_commit=lambda _tx, _stored: None)),
            closed=lambda association: discard(database.write(lambda tx: archive.closed(tx, association))),
        ),
        DicomLimits(),
    )
    server.start("127.0.0.1", 0)
    control.send(server.port)
    control.recv()
    server.close()
    database.close()


def plain(folder: Path, control: Connection) -> None:
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


def discard(_result: object) -> None:
    return None


def dataset(kilobytes: int = 512) -> Dataset:
    return open_file(chest_x_ray(ChestXRay(rows=kilobytes, columns=512, bits=16)))


def files(folder: Path, count: int, run: int, kilobytes: int) -> Path:
    """Write new instances: a repeated one would be recognised and not stored."""
    made = folder / f"run-{run}"
    made.mkdir()
    template = dataset(kilobytes)
    for number in range(count):
        template.SOPInstanceUID = f"2.25.{run * 1_000_000 + number + 1}"
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        template.save_as(made / f"{number}.dcm")
    return made


def by_pynetdicom(folder: Path, port: int) -> float:
    contents = [path.read_bytes() for path in sorted(folder.iterdir())]
    started = time.perf_counter()
    send(contents, Peer(ae_title="SCP", host="127.0.0.1", port=port))
    return len(contents) / (time.perf_counter() - started)


def by_dcmtk(folder: Path, port: int) -> float:
    command = [STORESCU, "--max-send-pdu", str(PDU), "+sd", "127.0.0.1", str(port), folder]
    started = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "TCP_NODELAY": "1"})
    return len(list(folder.iterdir())) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kilobytes", type=int, default=512)
    wanted = parser.parse_args()
    senders: dict[str, Callable[[Path, int], float]] = {"pynetdicom": by_pynetdicom}
    if STORESCU.exists():
        senders["DCMTK storescu"] = by_dcmtk
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports, ends = {}, []
        for serve in (ausculta, plain):
            place = folder / serve.__name__
            place.mkdir()
            ours, theirs = spawn.Pipe()
            spawn.Process(target=serve, args=(place, theirs), daemon=True).start()
            ports[serve.__name__] = ours.recv()
            ends.append(ours)
        rates: dict[tuple[str, str], list[float]] = {}
        run = 0
        for counted in [False] + [True] * wanted.rounds:  # the first round is a warm-up for both
            for sender, by in senders.items():
                for server, port in ports.items():
                    run += 1
                    made = files(folder, wanted.instances, run, wanted.kilobytes)
                    rate = by(made, port)
                    if counted:
                        rates.setdefault((sender, server), []).append(rate)
                    for path in made.iterdir():
                        path.unlink()
        for end in ends:
            end.send("stop")
    print(f"{wanted.rounds} rounds of {wanted.instances} instances of {wanted.kilobytes} KiB, one association")
    for sender in senders:
        whole, bare = (statistics.median(rates[sender, server]) for server in ports)
        print(f"{sender:>15}: Ausculta {whole:6.0f}/s   plain pynetdicom {bare:6.0f}/s   ratio {whole / bare:.2f}")


if __name__ == "__main__":
    main()
