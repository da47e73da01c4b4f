"""``ausculta send``: put files through a server's listeners, as a test of the way in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Put files through a server's listeners; the address comes from the options alone, not from the settings.",
)

PathsArgument = Annotated[list[Path], typer.Argument(help="Files or folders.", exists=True)]


@app.command()
def hl7(
    paths: PathsArgument,
    host: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its MLLP port.")] = 2575,
) -> None:
    """Send HL7 v2 messages, a file each, and print each acknowledgement code."""
    from fhir_adapter.hl7v2.client import MllpClient

    client = MllpClient(host, port)
    try:
        for path in _files(paths):
            receipt = client.send(path.read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r"))
            typer.echo(f"{path.name}: {receipt.code} {receipt.control_id}")
    finally:
        client.close()


@app.command()
def dicom(
    paths: PathsArgument,
    host: Annotated[str, typer.Option(help="Where the server listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its DICOM port.")] = 11112,
    called: Annotated[str, typer.Option(help="Its application entity title.")] = "AUSCULTA",
    calling: Annotated[str, typer.Option(help="Ours.")] = "SENDER",
) -> None:
    """Send DICOM files over one association and print each status."""
    from dicom_node.scu import Peer
    from dicom_node.scu import send as store

    peer = Peer(ae_title=called, host=host, port=port, calling_ae=calling)
    receipt = store([path.read_bytes() for path in _files(paths)], peer)
    for uid, status in receipt.statuses.items():
        typer.echo(f"{uid}: 0x{status:04X}")


@app.command()
def fhir(
    paths: PathsArgument,
    url: Annotated[str, typer.Option(help="FHIR base URL of the server.")] = "http://127.0.0.1:8080/fhir",
    timeout: Annotated[float, typer.Option(help="How long one request may take, in seconds.")] = 120.0,
) -> None:
    """Send FHIR resources: files of one resource or Bundle (.json), or of one on each line (.ndjson), also with .gz.

    A resource is created, a transaction or batch is carried out as it is. Lines, and the entries of other Bundles, are
    updates by their ids: sent again, they change nothing. What is refused of them is in <name>.errors.ndjson.
    """
    from service.commands.send_fhir import send_fhir

    if send_fhir(paths, url, timeout):
        raise typer.Exit(1)


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)
