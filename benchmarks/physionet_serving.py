"""The serving side of :mod:`benchmarks.physionet`: sends stays to a server, and collects what it read and said."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import orjson

from benchmarks.physionet_model import NAME, Trained
from benchmarks.physionet_records import Calendar, Record, messages, transaction
from benchmarks.processes import Read, ServerProcess
from fhir_adapter.hl7v2.client import MllpClient

_STALLED_S: Final = 240


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the server read and said, by record."""

    rows: Mapping[str, Sequence[float]]
    #: Of the table of results.
    probabilities: Mapping[str, float]
    #: Of the RiskAssessments.
    stated: Mapping[str, float]


def send_fhir(server: ServerProcess, records: Sequence[Record], calendar: Calendar) -> None:
    """Post each stay as one transaction.

    Parameters
    ----------
    server
        The server.
    records
        The stays.
    calendar
        When they were.
    """
    with httpx.Client(timeout=120, trust_env=False, headers={"Content-Type": "application/fhir+json"}) as client:
        for record in records:
            body = orjson.dumps(transaction(record, calendar))
            client.post(f"{server.url}/fhir", content=body).raise_for_status()


def send_hl7(server: ServerProcess, records: Sequence[Record], calendar: Calendar) -> None:
    """Send each stay as messages of one connection.

    Parameters
    ----------
    server
        The server.
    records
        The stays.
    calendar
        When they were.
    """
    client = MllpClient("127.0.0.1", server.ports.mllp)
    try:
        for record in records:
            for message in messages(record, calendar):
                client.send(message)
    finally:
        client.close()


Send = Callable[[ServerProcess, Sequence[Record], Calendar], None]
FEEDS: Final[Mapping[str, Send]] = {"FHIR resources": send_fhir, "ORU feed": send_hl7}


def serve(trained: Trained, calendar: Calendar, send: Send, folder: Path) -> Served:
    """Send the stays of the test split to a server and return what it says.

    Parameters
    ----------
    trained
        The model.
    calendar
        When the stays were.
    send
        Sends them.
    folder
        Of the server, empty.
    """
    with ServerProcess(folder) as server:
        server.wait_ready()
        for command in (
            ("retire", "news2"),
            ("retire", "cxr-pneumonia"),
            ("add", str(trained.folder)),
            ("activate", NAME),
        ):
            done = server.command("models", *command)
            assert done.returncode == 0, done.stderr
        send(server, trained.records, calendar)
        _wait(server, len(trained.records))
        return _served(server)


def _wait(server: ServerProcess, wanted: int) -> None:
    """Wait until there are as many results; end where none comes for long."""
    seen, since = -1, time.monotonic()
    while seen < wanted:
        with server.snapshot() as read:
            ((found,),) = read(f"select count(*) from results where model = '{NAME}'")
        if found > seen:
            seen, since = found, time.monotonic()
        assert time.monotonic() - since < _STALLED_S, f"{seen} of {wanted} results"
        time.sleep(0.2)


def _served(server: ServerProcess) -> Served:
    names = _pages(server, "Patient", lambda it: (f"Patient/{it['id']}", it["identifier"][0]["value"]))
    stated = _pages(
        server,
        "RiskAssessment",
        lambda it: (it["subject"]["reference"], it["prediction"][0]["probabilityDecimal"] / 100),
    )
    with server.snapshot() as read:
        return served(read, names, stated)


def served(read: Read, names: Mapping[str, str], stated: Mapping[str, float]) -> Served:
    """Return what is stored of the results.

    Parameters
    ----------
    read
        Of the database.
    names
        Reference of a patient -> record.
    stated
        Reference of a patient -> probability that the RiskAssessment states.
    """
    rows: dict[str, list[float]] = {}
    probabilities: dict[str, float] = {}
    for subject, kind, features, outputs, reason in read(
        f"select subject, kind, features, outputs, reason from results where model = '{NAME}'"
    ):
        assert kind == "prediction", reason
        assert names[subject] not in rows, "one result for each stay"
        values: dict[str, float] = {}
        for one in json.loads(features):  # what is left out of a window stands there too, without a value
            if one["value"] is not None or one["name"] not in values:
                values[one["name"]] = np.nan if one["value"] is None else float(one["value"])
        rows[names[subject]] = list(values.values())
        probabilities[names[subject]] = json.loads(outputs)[0]["value"]
    return Served(
        rows=rows,
        probabilities=probabilities,
        stated={names[subject]: probability for subject, probability in stated.items()},
    )


def _pages(server: ServerProcess, kind: str, pair: Callable[[Any], tuple[str, Any]]) -> dict[str, Any]:
    url: str | None = f"{server.url}/fhir/{kind}?_count=200"
    found: dict[str, Any] = {}
    with httpx.Client(timeout=120, trust_env=False) as client:
        while url is not None:
            page = client.get(url).raise_for_status().json()
            found |= dict(pair(entry["resource"]) for entry in page.get("entry", ()))
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found
