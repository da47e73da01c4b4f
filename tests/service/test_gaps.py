"""Values that cannot be used: units are converted by the analyte, and a result says what it was computed without.

The model reads a laboratory panel and may do without three of its values. The stories enter by HL7 v2;
what counts is what the EHR has received.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from fhir_adapter.hl7v2.synthesise import LabResult, oru_labs
from inference.finalize import finalize_folder
from inference.testing import NOW
from inference.testing_folder import MANIFEST

from .hospital import ADULT, Hospital

LAB_RISK = "lab-risk"
CREATININE, POTASSIUM, LACTATE, GLUCOSE = "2160-0", "2823-3", "2524-7", "2345-7"

FEATURES = """
features:
  - name: creatinine
    title: creatinine
    window: {take: max, hours: 24}
    missing: {default: 1.0}
    sources: [{code: 2160-0, unit: mg/dL, analyte: creatinine, plausible: [0.1, 30]}]
  - name: potassium
    title: potassium
    window: {take: last, hours: 24}
    missing: {default: 4.0}
    sources: [{code: 2823-3, unit: mmol/L, analyte: potassium, plausible: [1, 12]}]
  - name: lactate
    title: lactate
    window: {take: last, hours: 24}
    missing: nan
    sources: [{code: 2524-7, unit: mmol/L, analyte: lactate, plausible: [0, 40]}]
  - name: glucose
    title: glucose
    window: {take: last, hours: 24}
    missing: refuse
    sources: [{code: 2345-7, unit: mmol/L, analyte: glucose, plausible: [0.5, 100]}]
"""
FULL = {
    CREATININE: ("2.0", "mg/dL"),
    POTASSIUM: ("5.0", "mmol/L"),
    LACTATE: ("3.0", "mmol/L"),
    GLUCOSE: ("6.0", "mmol/L"),
}


def lab_risk(folder: Path, limits: str = "{}") -> Path:
    """Make a sealed folder of a logistic model of the panel."""
    (folder / "golden").mkdir(parents=True)
    manifest = MANIFEST.replace("pulse-risk", LAB_RISK).replace("codes: [8867-4]", f"codes: [{', '.join(FULL)}]")
    (folder / "model.yaml").write_text(manifest.replace("limits: {}", f"limits: {limits}"))
    (folder / "features.yaml").write_text(FEATURES)
    facts = [{"code": code, "value": value, "unit": unit} for code, (value, unit) in FULL.items()]
    case = {"input": {"subject": {"reference": "Patient/golden"}, "at": NOW.isoformat(), "facts": facts}}
    (folder / "golden" / "panel.json").write_text(json.dumps(case))
    weights = {
        "weight": np.array([0.5, 0.4, 0.3, 0.05]),
        "bias": np.array(-4.0),
        "fill": np.array([1.0, 4.0, 1.5, 5.0]),
    }
    save_file(weights, folder / "weights.safetensors")
    finalize_folder(folder, {"Evidence": "None: a test."})
    return folder


@pytest.fixture
def laboratory(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Hospital:
    """A hospital in which the model is active and the patient admitted."""
    hospital = open_hospital(model_dirs=(lab_risk(tmp_path / LAB_RISK),))
    hospital.set_model(LAB_RISK, "active")
    hospital.set_model("news2", "retired")
    hospital.admit()
    return hospital


def panel(hospital: Hospital, **changes: tuple[str, str] | None) -> str:
    """Send the panel, with other values or without some; return what the EHR received for it."""
    named = {"creatinine": CREATININE, "potassium": POTASSIUM, "lactate": LACTATE, "glucose": GLUCOSE}
    values = FULL | {named[name]: value for name, value in changes.items()}
    hospital.sent += 1
    results = [
        LabResult(code=code, display=code, value=value[0], unit=value[1]) for code, value in values.items() if value
    ]
    assert hospital.hl7(oru_labs(ADULT, results, f"LAB{hospital.sent}", hospital.clock.now())) == "AA"
    hospital.work()
    return newest(hospital)


def newest(hospital: Hospital) -> str:
    row = hospital.results()[-1]
    if row.kind == "prediction":
        about = [one for one in hospital.ehr.received("RiskAssessment") if one["identifier"][0]["value"] == row.id]
        (prediction,) = about[0]["prediction"]
        return f"{prediction['probabilityDecimal']} {prediction['rationale']}"
    return str(row.summary)


def share(text: str) -> float:
    return float(text.split(maxsplit=1)[0])


def test_the_units_of_another_laboratory_give_the_same_result(laboratory: Hospital) -> None:
    own = panel(laboratory)
    laboratory.clock.advance(60)
    other = panel(laboratory, creatinine=("176.8", "umol/L"), potassium=("5.0", "meq/L"), glucose=("108.1", "mg/dL"))
    assert share(own) == pytest.approx(share(other), abs=0.001)
    assert "Computed without" not in own + other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"creatinine": ("2.0", "wibble")}, "Computed without creatinine (unreadable)."),
        ({"potassium": ("50", "mmol/L")}, "Computed without potassium (implausible)."),
        ({"lactate": None}, "Computed without lactate (missing)."),
    ],
)
def test_a_result_says_what_it_was_computed_without(laboratory: Hospital, changes: dict[str, Any], words: str) -> None:
    assert words in panel(laboratory, **changes)
    page = httpx.get(f"{laboratory.web.url}/console/results/{laboratory.results()[-1].id}")
    assert page.status_code == 200
    assert words in page.text


def test_half_of_what_may_be_missing_is_the_most_that_a_model_bears_unless_it_declares_more(
    laboratory: Hospital,
) -> None:
    assert panel(laboratory, creatinine=("2.0", "wibble"), lactate=None) == (
        "AI result not available: 2 of 4 values cannot be used, and the model bears 1: "
        "creatinine (unreadable), lactate (missing)"
    )


def test_a_model_declares_how_many_missing_values_it_bears(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> None:
    hospital = open_hospital(model_dirs=(lab_risk(tmp_path / LAB_RISK, "{max_without_value: 2}"),))
    hospital.set_model(LAB_RISK, "active")
    hospital.admit()
    text = panel(hospital, creatinine=("2.0", "wibble"), lactate=None)
    assert "Computed without creatinine (unreadable), lactate (missing)." in text
    hospital.clock.advance(25 * 3600)
    assert "the model bears 2" in panel(hospital, creatinine=None, lactate=None, potassium=None)


def test_a_model_declares_the_share_of_imputed_values_that_it_bears_and_says_how_much_it_was(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> None:
    hospital = open_hospital(model_dirs=(lab_risk(tmp_path / LAB_RISK, "{imputed_at_most: 0.5}"),))
    hospital.set_model(LAB_RISK, "active")
    hospital.admit()
    assert "Imputed" not in panel(hospital)
    hospital.clock.advance(25 * 3600)
    text = panel(hospital, creatinine=("2.0", "wibble"), lactate=None)
    assert "Computed without creatinine (unreadable), lactate (too old). Imputed: 2 of 4 values (50 %)." in text
    hospital.clock.advance(25 * 3600)
    assert panel(hospital, creatinine=None, lactate=None, potassium=None) == (
        "AI result not available: 3 of 4 values (75 %) would be imputed, and the model bears 50 %: "
        "creatinine, potassium, lactate (too old)"
    )


def test_one_value_that_cannot_be_used_does_not_void_a_window(laboratory: Hospital) -> None:
    before = share(panel(laboratory, creatinine=("6.0", "mg/dL")))
    laboratory.clock.advance(60)
    text = panel(laboratory, creatinine=("900", "mg/dL"))
    assert share(text) == before
    assert "Values left out: creatinine (implausible)." in text


def test_a_value_that_cannot_be_used_makes_a_new_result_that_says_so(laboratory: Hospital) -> None:
    assert "Computed without lactate (missing)." in panel(laboratory, lactate=None)
    laboratory.clock.advance(60)
    results = [LabResult(code=LACTATE, display="Lactate", value="3.0", unit="wibble")]
    laboratory.hl7(oru_labs(ADULT, results, "LATE", laboratory.clock.now()))
    laboratory.work()
    assert "Computed without lactate (unreadable)." in newest(laboratory)


def test_the_row_of_a_result_holds_what_stood_in_for_a_missing_value(laboratory: Hospital) -> None:
    panel(laboratory, lactate=None)
    features = {feature["name"]: feature for feature in json.loads(laboratory.results()[-1].features)}
    assert (features["lactate"]["status"], features["lactate"]["value"], features["lactate"]["why"]) == (
        "imputed",
        "1.5",
        "missing",
    )
    assert (features["creatinine"]["status"], features["creatinine"]["value"]) == ("used", "2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lactate": None}, "lactate (there was no value; a declared default stands in)"),
        ({"creatinine": None}, "creatinine (there was no value; a declared default stands in)"),
        ({"creatinine": ("2.0", "wibble")}, "creatinine (the value or its unit could not be read"),
        ({"potassium": ("50", "mmol/L")}, "potassium (the value is outside its declared limits"),
        ({"glucose": None}, "glucose (there was no value)"),
    ],
)
def test_the_console_names_what_was_not_used_and_why(laboratory: Hospital, changes: dict[str, Any], words: str) -> None:
    panel(laboratory, **changes)
    page = httpx.get(f"{laboratory.web.url}/console/results/{laboratory.results()[-1].id}").text
    assert "Not used as measured:" in page
    assert words in page


def test_the_console_names_a_value_that_was_too_old_and_one_beside_those_of_its_window(laboratory: Hospital) -> None:
    panel(laboratory)
    laboratory.clock.advance(25 * 3600)
    panel(laboratory, lactate=None, creatinine=("6.0", "mg/dL"))
    laboratory.clock.advance(60)
    panel(laboratory, lactate=None, creatinine=("900", "mg/dL"))
    page = httpx.get(f"{laboratory.web.url}/console/results/{laboratory.results()[-1].id}").text
    assert "lactate (the newest value was too old" in page
    assert "creatinine (the value is outside its declared limits)" in page


def test_the_console_says_nothing_of_that_when_every_value_was_used(laboratory: Hospital) -> None:
    panel(laboratory)
    page = httpx.get(f"{laboratory.web.url}/console/results/{laboratory.results()[-1].id}").text
    assert "Not used as measured:" not in page
