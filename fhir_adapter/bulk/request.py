"""What an export is asked for (Bulk Data Access IG 2.0, export.html#query-parameters)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import orjson

from fhir_adapter.store.document import Json
from fhir_adapter.store.query_string import pairs_of
from fhir_adapter.store.search.compartments import PATIENT
from fhir_adapter.store.search.criteria import NotServed
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.times import point
from kernel.errors import Category, Problem

Level = Literal["system", "patient", "group"]

NDJSON: Final = "application/fhir+ndjson"
FORMATS: Final = frozenset({NDJSON, "application/ndjson", "ndjson"})
_IGNORED: Final = frozenset({"_format", "_pretty"})
_NO_CONDITION: Final = frozenset({"_sort", "_count", "_total", "_summary", "_elements", "_cursor"})
MOST_FILTERS: Final = 50


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What one export holds."""

    level: Level
    #: Id of the Group, for the level ``group``.
    group: str = ""
    #: Resource types; every one of the level when empty.
    kinds: tuple[str, ...] = ()
    #: Only what was stored at this instant or later, as it was sent.
    since: str = ""
    #: Searches ``Type?…``; of a type that one of them names, what meets any of them.
    filters: tuple[str, ...] = ()
    #: References of the only patients; all of the level when empty.
    patients: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the JSON of which :func:`read_request` makes this again."""
        return orjson.dumps(asdict(self)).decode()

    def types(self, served: Sequence[str]) -> list[str]:
        """Return the resource types to export, in order.

        Parameters
        ----------
        served
            The types that are stored.
        """
        of_level = [kind for kind in sorted(served) if self.level == "system" or kind in PATIENT]
        return [kind for kind in of_level if not self.kinds or kind in self.kinds]

    def queries(self, base: str = "") -> dict[str, list[Query]]:
        """Return the parsed filters of each type.

        Parameters
        ----------
        base
            URL of the API.

        Raises
        ------
        Problem
            ``incorrect`` for a filter that is no search, or that limits or orders what is found.
        """
        found: dict[str, list[Query]] = {}
        for text in self.filters:
            kind, mark, query = text.partition("?")
            names = {name.partition(":")[0] for name, _ in pairs_of(query)}
            if not mark or not names or names & (_NO_CONDITION | {"_include", "_revinclude"}):
                raise Problem(
                    Category.INCORRECT, "_typeFilter is a search: Type?parameter=value, with conditions alone"
                )
            found.setdefault(kind, []).append(parse(kind, query, base=base))
        return found


def read_request(text: str) -> ExportRequest:
    """Return what :meth:`ExportRequest.text` wrote."""
    stored: dict[str, Any] = orjson.loads(text)
    return ExportRequest(
        level=stored["level"],
        group=stored["group"],
        kinds=tuple(stored["kinds"]),
        since=stored["since"],
        filters=tuple(stored["filters"]),
        patients=tuple(stored["patients"]),
    )


def of_query(query: str) -> list[tuple[str, str]]:
    """Return the parameters of a kick-off by GET.

    Raises
    ------
    Problem
        ``incorrect`` for a query that cannot be read.
    """
    return pairs_of(query)


def of_parameters(body: Json) -> list[tuple[str, str]]:
    """Return the parameters of a kick-off by POST.

    Raises
    ------
    Problem
        ``incorrect`` when it is not a Parameters resource with one value for each.
    """
    given = body.get("parameter", [])
    if body.get("resourceType") != "Parameters" or not isinstance(given, list):
        raise Problem(Category.INCORRECT, "a Parameters resource is expected here")
    return [_named(parameter) for parameter in given]


def _named(parameter: Any) -> tuple[str, str]:
    if isinstance(parameter, dict) and isinstance(parameter.get("name"), str):
        values = [value for name, value in parameter.items() if name.startswith("value")]
        value = values[0] if len(values) == 1 else None
        if isinstance(value, dict):
            value = value.get("reference")
        if isinstance(value, str):
            return parameter["name"], value
    raise Problem(
        Category.INCORRECT, "a parameter needs a name and one value: a string, a code, an instant or a Reference"
    )


def export_request(
    level: Level, given: Sequence[tuple[str, str]], served: frozenset[str], *, group: str = "", lenient: bool = False
) -> ExportRequest:
    """Read the parameters of a kick-off.

    Parameters
    ----------
    level
        What is exported: everything, all patients, or those of a Group.
    given
        Names and values.
    served
        The resource types that are stored.
    group
        Id of the Group.
    lenient
        Ignore what is not served (``Prefer: handling=lenient``).

    Raises
    ------
    Problem
        ``incorrect`` for a parameter or a value that is not served.
    """
    kinds: list[str] = []
    filters: list[str] = []
    patients: list[str] = []
    since = ""
    for name, value in given:
        if name in _IGNORED:
            continue
        if name == "_type":
            kinds += [kind.strip() for kind in value.split(",") if kind.strip()]
        elif name == "_typeFilter":
            filters += _filters(value)
        elif name == "_since" and point(value) is not None:
            since = value
        elif name == "_outputFormat" and value.replace(" ", "+") in FORMATS:
            pass
        elif name == "patient" and level != "system":
            patients.append(value)
        elif not lenient:
            allowed = (
                "_type, _typeFilter, _since (an instant), _outputFormat (ndjson), and patient for those of patients"
            )
            raise NotServed(f"an export takes {allowed}")
    unknown = [kind for kind in kinds if kind not in served or kind == "AuditEvent"]
    if unknown and not lenient:
        raise Problem(Category.INCORRECT, "_type names types that this server stores")
    request = ExportRequest(
        level=level,
        group=group,
        kinds=tuple(dict.fromkeys(kind for kind in kinds if kind not in unknown)),
        since=since,
        filters=tuple(filters),
        patients=tuple(patients),
    )
    if len(filters) > MOST_FILTERS:
        raise Problem(Category.INCORRECT, f"an export may have {MOST_FILTERS} filters at the most")
    if not set(request.queries()) <= set(request.types(sorted(served))):
        raise Problem(Category.INCORRECT, "_typeFilter names types that are exported")
    return request


def _filters(text: str) -> list[str]:
    """Split filters at the commas before the next ``Type?``: other commas are between values."""
    found: list[str] = []
    for part in text.split(","):
        if "?" in part.split("=", 1)[0] or not found:
            found.append(part)
        else:
            found[-1] += f",{part}"
    return [part for part in found if part]
