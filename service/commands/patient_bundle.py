"""What a model would be given of the patient in a FHIR Bundle, for a run that stores nothing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kernel.errors import Category, Problem

if TYPE_CHECKING:
    from inference.contract import Admission, Fact, FactsInput
    from inference.features.records import StatedCodes

_URN: Final = "urn:uuid:"


def read_bundle(bundle: Path, stated: "StatedCodes") -> "FactsInput":
    """Read a Bundle of one patient; the moment is when the last of its resources became known.

    Parameters
    ----------
    bundle
        The file.
    stated
        Which conditions and medications the model reads.

    Raises
    ------
    Problem
        ``incorrect`` when it is no Bundle in JSON or does not hold one Patient.
    """
    from fhir_adapter.facts import patient_subject
    from fhir_adapter.stated import KINDS, stated_on
    from inference.contract import FactsInput

    found = _entries(bundle)
    resources = list(found.values())
    patients = [one for one in resources if one.get("resourceType") == "Patient"]
    if len(patients) != 1:
        raise Problem(Category.INCORRECT, f"{bundle.name} must hold one Patient; it holds {len(patients)}")
    now = datetime.now(UTC)
    observed = [fact for one in resources for fact in _observed(one, now)]
    recorded = [on for one in resources if one.get("resourceType") in KINDS and (on := stated_on(one)) is not None]
    at = max((*(fact.usable_from for fact in observed), *(on for on in recorded if on <= now)), default=now)
    said = [fact for one in resources for fact in _stated(one, at, stated, found)]
    return FactsInput(
        subject=patient_subject(f"Patient/{patients[0].get('id', 'unknown')}", patients[0]),
        facts=(*observed, *said),
        at=at,
        admission=_admission(resources, at),
    )


def _entries(bundle: Path) -> Mapping[str, Any]:
    """Return the resources by their references: of the entry where it has one, else by type and id."""
    from fhir_adapter.store.document import exact_values

    try:
        content = exact_values(bundle.read_bytes())
        entries = [entry for entry in content["entry"] if "resource" in entry]
        return {_reference(number, entry): entry["resource"] for number, entry in enumerate(entries)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as failure:
        raise Problem(
            Category.INCORRECT, f"{bundle.name} is no FHIR Bundle in JSON", diagnostics=repr(failure)
        ) from failure


def _reference(number: int, entry: Mapping[str, Any]) -> str:
    url = str(entry.get("fullUrl", ""))
    if url.startswith(_URN):
        return url
    resource = entry["resource"]
    return f"{resource.get('resourceType')}/{resource.get('id', f'entry-{number}')}"


def _observed(resource: Any, now: datetime) -> Iterator["Fact"]:
    from fhir_adapter.facts import observation_facts
    from fhir_adapter.store.times import point

    if resource.get("resourceType") == "Observation":
        known = point(resource.get("issued")) or point(resource.get("effectiveDateTime")) or now
        yield from observation_facts(resource, source=f"Observation/{resource.get('id', '')}", known=known)


def _stated(resource: Any, at: datetime, stated: "StatedCodes", found: Mapping[str, Any]) -> Iterator["Fact"]:
    from fhir_adapter.stated import KINDS, medication_id, stated_on, statement_facts

    def medication_of(reference: str) -> Any:
        if reference in found:
            return found[reference]
        id_ = medication_id(reference)
        same = (one for one in found.values() if one.get("resourceType") == "Medication" and one.get("id") == id_)
        return next(same, None)

    kind = resource.get("resourceType")
    if kind in KINDS:
        yield from statement_facts(
            resource,
            source=f"{kind}/{resource.get('id', '')}",
            known=stated_on(resource) or at,
            wanted=stated.holds,
            medication_of=medication_of,
        )


def _admission(resources: list[Any], at: datetime) -> "Admission | None":
    from fhir_adapter.admission import stay_of
    from inference.contract import Admission

    stays = ({"id": "", **one} for one in resources if one.get("resourceType") == "Encounter")
    stay = stay_of(stays, at)
    return None if stay is None else Admission(start=stay.start, source=f"Encounter/{stay.id}")
