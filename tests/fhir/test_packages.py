"""Profiles of a site: packages with snapshots are taken, anything else is refused with its reason."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.validation import packages
from fhir_adapter.validation.profiles import Profiles
from fhir_adapter.validation.report import Finding, report
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4
from kernel.errors import Problem

URL = "http://example.org/StructureDefinition/"


def element(path: str, *, name: str = "", least: int = 0, most: str = "*", **more: Any) -> dict[str, Any]:
    """Return an ElementDefinition; ``name`` is its id without the type, where that is not its path."""
    base = more.pop("base", path)
    found = {"id": f"{path.split('.', 1)[0]}.{name}" if name else path, "path": path, "min": least, "max": most}
    return found | {"base": {"path": base, "max": more.pop("base_max", most)}} | more


def profile(name: str, kind: str, *elements: dict[str, Any], **root: Any) -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition",
        "url": f"{URL}{name}",
        "version": "1.0",
        "type": kind,
        "derivation": "constraint",
        "snapshot": {"element": [element(kind, **root), *elements]},
    }


def sliced(kind: str, path: str = "$this") -> dict[str, Any]:
    return {"slicing": {"discriminator": [{"type": kind, "path": path}], "rules": "open"}}


def known(tmp_path: Path, *resources: dict[str, Any]) -> Profiles:
    (tmp_path / "site.ndjson").write_bytes(packages.packed(resources))
    return Profiles(r4(), tmp_path)


def said(profiles: Profiles, resource: dict[str, Any], name: str) -> list[Finding]:
    return report(Checks(r4()), profiles, resource, [f"{URL}{name}"])


def faults(profiles: Profiles, resource: dict[str, Any], name: str) -> list[tuple[str, str]]:
    return [(it.code, it.path) for it in said(profiles, resource, name) if it.severity == "error"]


PATIENT: dict[str, Any] = {"resourceType": "Patient", "name": [{"family": "Müller"}]}
REFERENCE = [{"code": "Reference"}]


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": it} for it in resources]}


def entries(discriminator: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    """Return a profile of a Bundle that demands one entry of a slice."""
    backbone = [{"code": "BackboneElement"}]
    return profile(
        "one",
        "Bundle",
        element("Bundle.entry", type=backbone, **discriminator),
        element("Bundle.entry", name="entry:it", least=1, most="1", base_max="*", type=backbone),
        element("Bundle.entry.resource", name="entry:it.resource", least=1, most="1", **resource),
    )


def test_slices_are_distinguished_by_their_type(tmp_path: Path) -> None:
    made = known(tmp_path, entries(sliced("type", "resource"), {"type": [{"code": "Patient"}]}))
    assert faults(made, bundle(PATIENT, {"resourceType": "Basic", "code": {"text": "x"}}), "one") == []
    assert faults(made, bundle({"resourceType": "Basic", "code": {"text": "x"}}), "one") == [("required", ".entry")]
    assert faults(made, bundle(PATIENT, PATIENT), "one") == [("structure", ".entry")]


def test_slices_are_distinguished_by_the_profile_to_which_they_conform(tmp_path: Path) -> None:
    named = profile("named", "Patient", element("Patient.name", least=1, base_max="*", type=[{"code": "HumanName"}]))
    type_ = {"type": [{"code": "Patient", "profile": [f"{URL}named"]}]}
    made = known(tmp_path, named, entries(sliced("profile", "resource"), type_))
    nameless = {"resourceType": "Patient", "active": True}
    assert faults(made, bundle(PATIENT, nameless), "one") == []
    assert faults(made, bundle(nameless), "one") == [("required", ".entry")]


def test_slices_are_distinguished_by_whether_an_element_exists(tmp_path: Path) -> None:
    made = known(
        tmp_path,
        profile(
            "contact",
            "Patient",
            element("Patient.telecom", type=[{"code": "ContactPoint"}], **sliced("exists", "period")),
            element("Patient.telecom", name="telecom:now", least=1, base_max="*", type=[{"code": "ContactPoint"}]),
            element("Patient.telecom.period", name="telecom:now.period", most="0", type=[{"code": "Period"}]),
        ),
    )
    old = {"system": "phone", "value": "1", "period": {"end": "2020"}}
    assert faults(made, PATIENT | {"telecom": [old, {"system": "phone", "value": "2"}]}, "contact") == []
    assert faults(made, PATIENT | {"telecom": [old]}, "contact") == [("required", ".telecom")]


def test_slices_are_distinguished_by_the_type_that_a_reference_names(tmp_path: Path) -> None:
    target = {
        "type": [{"code": "Reference", "targetProfile": ["http://hl7.org/fhir/StructureDefinition/Practitioner"]}]
    }
    made = known(
        tmp_path,
        profile(
            "cared",
            "Patient",
            element("Patient.generalPractitioner", type=REFERENCE, **sliced("type", "$this.resolve()")),
            element("Patient.generalPractitioner", name="generalPractitioner:doctor", least=1, most="1", base_max="*")
            | target,
        ),
    )
    doctor, clinic = {"reference": "Practitioner/1"}, {"reference": "Organization/1"}
    assert faults(made, PATIENT | {"generalPractitioner": [clinic, doctor]}, "cared") == []
    assert faults(made, PATIENT | {"generalPractitioner": [clinic]}, "cared") == [("required", ".generalPractitioner")]


def test_a_rule_of_a_profile_is_checked_or_said_not_to_be(tmp_path: Path) -> None:
    rules = [
        {"key": "x-1", "severity": "error", "human": "a gender", "expression": "gender.exists()"},
        {"key": "x-2", "severity": "warning", "human": "a birth date", "expression": "birthDate.exists()"},
        {"key": "x-3", "severity": "error", "human": "?", "expression": "name.where(conformsTo('x'))"},
    ]
    found = said(known(tmp_path, profile("ruled", "Patient", constraint=rules)), PATIENT, "ruled")
    assert [(it.severity, it.text) for it in found] == [
        ("error", "x-1: a gender"),
        ("warning", "x-2: a birth date"),
        ("information", "constraint x-3 not checked"),
    ]


def test_a_binding_to_a_value_set_of_the_package_is_checked_by_its_strength(tmp_path: Path) -> None:
    codes = {"system": "urn:x", "concept": [{"code": "a"}]}
    value_set = {"resourceType": "ValueSet", "url": f"{URL}vs", "compose": {"include": [codes]}}
    concept = {"base_max": "1", "type": [{"code": "CodeableConcept"}]}

    def bound(strength: str) -> dict[str, Any]:
        return (
            element("Basic.code", least=1, most="1", binding={"strength": strength, "valueSet": f"{URL}vs"}) | concept
        )

    for strength, severity in (("required", "error"), ("extensible", "warning"), ("preferred", "warning")):
        made = known(tmp_path, profile("coded", "Basic", bound(strength)), value_set)
        right, wrong = (
            {"resourceType": "Basic", "code": {"coding": [{"system": "urn:x", "code": it}]}} for it in ("a", "b")
        )
        assert said(made, right, "coded") == []
        assert [(it.severity, it.path) for it in said(made, wrong, "coded")] == [(severity, ".code")]


def test_a_package_that_is_replaced_counts_at_the_next_question(tmp_path: Path) -> None:
    made = known(tmp_path, profile("a", "Patient"))
    assert made.find(f"{URL}a|1.0") is not None
    assert made.find(f"{URL}a|2.0") is None
    assert made.find(f"{URL}b") is None
    (tmp_path / "more.ndjson").write_bytes(packages.packed([profile("b", "Patient")]))
    assert made.find(f"{URL}b") is not None


def archive(path: Path, *resources: dict[str, Any]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for index, resource in enumerate(resources):
            content = json.dumps(resource).encode()
            member = tarfile.TarInfo(f"package/{index}.json")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def test_a_package_is_read_from_an_archive_and_from_a_folder(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tgz", profile("a", "Patient"), {"resourceType": "ImplementationGuide", "url": "x"})
    assert packages.packed(packages.resources(path)).count(b"\n") == 1
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_text(json.dumps(profile("a", "Patient")))
    assert packages.packed(packages.resources(tmp_path / "folder")).count(b"\n") == 1


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path) -> None:
    differential = {key: value for key, value in profile("a", "Patient").items() if key != "snapshot"}
    part = element("Patient.contact.name", least=1, type=[{"code": "HumanName"}])
    for resources, reason in (
        ([differential], "only a differential"),
        ([profile("a", "Patient", part)], "lacks an element"),
        ([], "has no profile"),
    ):
        with pytest.raises(Problem, match=reason):
            packages.packed(resources)
    (tmp_path / "text.tgz").write_text("no archive")
    with pytest.raises(Problem, match="no package"):
        list(packages.resources(tmp_path / "text.tgz"))
    with pytest.raises(Problem, match="no file or folder"):
        list(packages.resources(tmp_path / "none.tgz"))
