"""The table ``observation_origins``: how senders identified Observations. Every read and write of it is here."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from fhir_adapter.hl7v2.origin import WIDEST_S, Origin
from kernel.db import Transaction
from kernel.statements import Statement, upsert
from kernel.tables import observation_origins

_ORIGINS: Final = observation_origins.c
_APART: Final = "\n"
_OF: Final = Statement(
    select(observation_origins)
    .where(
        _ORIGINS.patient == bindparam("of_patient"),
        _ORIGINS.start > bindparam("after"),
        _ORIGINS.start < bindparam("until"),
    )
    .order_by(_ORIGINS.start, _ORIGINS.id)
)
_PUT: Final = upsert(observation_origins)
_COLUMNS: Final = ("id", "patient", "sender", "placer", "filler", "sub_id", "codes", "start", "end")


def read_origins(connection: Connection, patient: str, start: float, end: float) -> tuple[Origin, ...]:
    """Return what is stored of a patient whose time may overlap a span, oldest first.

    Parameters
    ----------
    connection
        Where to read.
    patient
        Id of the Patient.
    start, end
        The span, in seconds since 1970.
    """
    rows = _OF.run(connection, {"of_patient": patient, "after": start - WIDEST_S, "until": end})
    return tuple(_origin(row) for row in rows)


def write_origins(tx: Transaction, origins: Sequence[Origin]) -> None:
    """Store how Observations were identified, instead of how they were before.

    Parameters
    ----------
    tx
        The transaction that stores the Observations.
    origins
        At most one for each Observation.
    """
    tx.send_rows(_PUT, _COLUMNS, [_row(one) for one in origins])


def _origin(row: Any) -> Origin:
    named = row._asdict()  # the fields of an origin are the columns, in their order
    named["codes"] = frozenset(row.codes.split(_APART))
    return Origin(*named.values())


def _row(one: Origin) -> tuple[str | float, ...]:
    codes = _APART.join(sorted(one.codes))
    return one.id, one.patient, one.sender, one.placer, one.filler, one.sub_id, codes, one.start, one.end
