"""Conditions and medications in ``features.yaml``: 1 where one of a set of codes is in force, else 0."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from inference.contract import FactKind
from inference.features.code_sets import CodeSets, codes_in
from inference.features.records import MOST_HOURS, Stated
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

MEDICATIONS: Final[Mapping[str, FactKind]] = MappingProxyType(
    {
        "MedicationRequest": "medication-request",
        "MedicationStatement": "medication-statement",
        "MedicationAdministration": "medication-administration",
    }
)
"""Resource type -> kind of the fact that it becomes."""

VERIFICATIONS: Final = ("confirmed", "provisional", "differential", "unconfirmed")
"""Verification statuses (value set condition-ver-status) in which a Condition is stated; no status is the first."""


def stated_feature(table: YamlMapping, key: str, sets: CodeSets) -> tuple[tuple[Stated, ...], Decimal | None, Decimal]:
    """Read a feature of conditions or medications.

    Parameters
    ----------
    table
        The entry of the feature.
    key
        ``conditions`` or ``medications``.
    sets
        The code sets of the file.

    Returns
    -------
    tuple
        The codes, how many hours back they may have been in force (None: now), and how many hours before the moment
        that time ends.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    read = _condition if key == "conditions" else _medication
    stated = tuple(one for entry in table.tables(key) for one in read(entry, sets))
    if not stated:
        raise Problem(Category.INCORRECT, f"{table.place}.{key} must not be empty")
    if not table.has("window"):
        return stated, None, Decimal(0)
    window = table.table("window")
    hours = window.positive("hours", MOST_HOURS)
    offset = window.positive("offset", MOST_HOURS) if window.has("offset") else Decimal(0)
    window.done()
    if offset >= hours:
        raise Problem(Category.INCORRECT, f"{window.place}.offset must be below hours, where the window begins")
    return stated, hours, offset


def _condition(table: YamlMapping, sets: CodeSets) -> tuple[Stated, ...]:
    codes = codes_in(table, sets)
    statuses = table.some_of("status", *VERIFICATIONS) if table.has("status") else ("confirmed",)
    table.done()
    return tuple(
        Stated(codes=one, kinds=frozenset[FactKind]({"condition"}), statuses=frozenset(statuses)) for one in codes
    )


def _medication(table: YamlMapping, sets: CodeSets) -> tuple[Stated, ...]:
    codes = codes_in(table, sets)
    types = table.some_of("types", *MEDICATIONS) if table.has("types") else tuple(MEDICATIONS)
    table.done()
    kinds = frozenset(MEDICATIONS[one] for one in types)
    return tuple(Stated(codes=one, kinds=kinds) for one in codes)
