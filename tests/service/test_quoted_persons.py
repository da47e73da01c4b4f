"""A result message and a header quote a person; they fill what is not known and change nothing that is.

Only the source of patients (ADT), a FHIR client, or the decision of a person states who a patient is.
"""

from dataclasses import replace
from datetime import date

import httpx
import pytest

from dicom_node.synthesise import ChestXRay
from fhir_adapter.hl7v2.synthesise import SyntheticPatient, adt_a01, adt_a08

from .hospital import ADULT, AUTHORITY, Hospital
from .test_commands import Command, ausculta  # noqa: F401 - a fixture
from .test_identity_in_doubt import CALM, IN_DOUBT, decide, holds, outcomes, patient, send
from .test_order import inbox_states

ADA = replace(ADULT, family="Example", given="Ada", birth_date=date(1950, 3, 12))
BOB = replace(ADA, family="Stranger", given="Bob")
LATER_BORN_BOB = replace(BOB, birth_date=date(1980, 5, 5))
BORN, SEX = b"|19500312|", b"|F\r"


def known(hospital: Hospital) -> tuple[str, str | None, str | None]:
    """Return the stored family name, birth date and sex."""
    stored = patient(hospital)
    (name,) = stored["name"]
    return name["family"], stored.get("birthDate"), stored.get("gender")


def quoted(hospital: Hospital, person: SyntheticPatient, born: bytes = b"", **values: str) -> str:
    """Send vital signs that quote a person, and return the state of the message; PID-7 may be any text."""
    message = hospital.vitals(person, **CALM | values)
    send(hospital, message.replace(BORN, b"|" + born + b"|") if born else message)
    return inbox_states(hospital)[-1]


def stated(hospital: Hospital, person: SyntheticPatient, born: bytes = b"") -> str:
    """Send an ADT^A08 about a person, and return the state of the message."""
    hospital.sent += 1
    message = adt_a08(person, f"A-{hospital.sent}", hospital.clock.now())
    send(hospital, message.replace(BORN, b"|" + born + b"|") if born else message)
    return inbox_states(hospital)[-1]


@pytest.fixture(params=["stated by an ADT", "stated by a FHIR client", "quoted first"])
def charted(hospital: Hospital, request: pytest.FixtureRequest) -> Hospital:
    """Ada is known and scored."""
    if request.param == "stated by an ADT":
        hospital.admit(ADA)
    elif request.param == "stated by a FHIR client":
        resource = {
            "resourceType": "Patient",
            "identifier": [{"system": AUTHORITY, "value": ADA.mrn}],
            "name": [{"family": "Example", "given": ["Ada"]}],
            "birthDate": "1950-03-12",
            "gender": "female",
        }
        assert httpx.post(f"{hospital.url}/Patient", json=resource).status_code == 201
    hospital.clock.advance(120)
    assert quoted(hospital, ADA) == "done"
    assert known(hospital) == ("Example", "1950-03-12", "female")
    return hospital


# A chart does not become another person step by step


def test_two_result_messages_do_not_make_a_chart_that_of_another_person(charted: Hospital) -> None:
    assert quoted(charted, BOB, pulse="75") == "done"
    assert known(charted) == ("Example", "1950-03-12", "female")
    assert charted.engine.received()[-1].first("PID").get(5) == "Example"
    assert quoted(charted, LATER_BORN_BOB, pulse="135") == "held"
    assert outcomes(charted)[-1].startswith(IN_DOUBT)
    assert known(charted) == ("Example", "1950-03-12", "female")
    assert quoted(charted, ADA, pulse="76") == "done"
    assert outcomes(charted)[-1] == "prediction"


def test_the_page_and_the_command_show_who_is_known(
    charted: Hospital,
    ausculta: Command,  # noqa: F811
) -> None:
    quoted(charted, BOB, pulse="75")
    quoted(charted, LATER_BORN_BOB, pulse="135")
    (hold,) = holds(charted)
    shown = ausculta("identity", "show", hold.id).stdout
    assert "known:  Example, Ada | 1950-03-12 | female" in shown
    assert "stated: Stranger, Bob | 1980-05-05 | female" in shown
    page = httpx.get(f"{charted.web.url}/console/identity/{hold.id}").text
    assert all(word in page for word in ("Example", "1950-03-12", "Stranger", "1980-05-05"))


def test_a_quoted_patient_is_corrected_by_the_source_of_patients(hospital: Hospital) -> None:
    assert quoted(hospital, BOB) == "done"
    assert stated(hospital, ADA) == "done"
    assert known(hospital) == ("Example", "1950-03-12", "female")
    assert quoted(hospital, BOB, pulse="75") == "done"
    assert known(hospital) == ("Example", "1950-03-12", "female")


def test_a_quoted_patient_who_is_somebody_else_by_the_source_of_patients_is_held_and_a_person_decides(
    hospital: Hospital,
) -> None:
    """The values that are stored came with the first quotation: a person has to see that they may be another's."""
    assert quoted(hospital, LATER_BORN_BOB) == "done"
    assert stated(hospital, ADA) == "held"
    assert known(hospital)[0] == "Stranger"
    decide(hospital, "accept")
    assert known(hospital) == ("Example", "1950-03-12", "female")
    assert quoted(hospital, LATER_BORN_BOB, pulse="75") == "held"


def test_an_accepted_hold_states_who_the_patient_is(charted: Hospital) -> None:
    assert quoted(charted, LATER_BORN_BOB) == "held"
    decide(charted, "accept")
    assert known(charted) == ("Stranger", "1980-05-05", "female")
    assert quoted(charted, ADA, pulse="75") == "held"


def test_a_quotation_fills_what_is_not_known(hospital: Hospital) -> None:
    hospital.admit(replace(ADA, family="UNKNOWN", given="", sex="U"))
    hospital.clock.advance(120)
    assert quoted(hospital, ADA) == "done"
    assert known(hospital) == ("Example", "1950-03-12", "female")
    assert quoted(hospital, LATER_BORN_BOB, pulse="75") == "held"


@pytest.mark.parametrize("later", [{}, {"PatientSex": "M"}], ids=["birth date", "birth date and sex"])
def test_headers_of_studies_do_not_make_a_chart_that_of_another_person(
    hospital: Hospital, later: dict[str, str]
) -> None:
    def film(number: int, **header: str) -> ChestXRay:
        about = {"PatientID": "4711", "IssuerOfPatientID": "HOSPITAL", "PatientSex": "F"}
        return ChestXRay(**about | header, AccessionNumber=f"A-{number}", rows=256, columns=256)  # type: ignore[arg-type]

    for number, header in enumerate(
        [
            {"PatientName": "Example^Ada", "PatientBirthDate": "20220312"},
            {"PatientName": "Stranger^Bob", "PatientBirthDate": "20220312"},
            {"PatientName": "Stranger^Bob", "PatientBirthDate": "20190505"} | later,
        ]
    ):
        hospital.dicom(film(number, **header))
        hospital.rest()
        assert known(hospital) == ("Example", "2022-03-12", "female")
    assert [it.startswith(IN_DOUBT) for it in outcomes(hospital)] == [False, False, True]
    assert hospital.engine.received()[-1].first("PID").get(5) == "Example"


# Birth dates that are less precise, wrong, or deleted


@pytest.mark.parametrize("born", [b"1950", b"195003"])
@pytest.mark.parametrize("send_it", [quoted, stated])
def test_a_less_precise_birth_date_that_agrees_changes_nothing(charted: Hospital, send_it, born: bytes) -> None:  # type: ignore[no-untyped-def]
    assert send_it(charted, ADA, born) == "done"
    assert known(charted) == ("Example", "1950-03-12", "female")
    assert quoted(charted, ADA, pulse="75") == "done"
    assert outcomes(charted)[-1] == "prediction"


def test_a_more_precise_birth_date_that_agrees_fills_the_day(hospital: Hospital) -> None:
    assert stated(hospital, ADA, b"1950") == "done"
    assert quoted(hospital, ADA) == "done"
    assert known(hospital) == ("Example", "1950-03-12", "female")


def test_a_birth_date_that_a_result_message_quotes_wrongly_does_not_silence_the_patient(charted: Hospital) -> None:
    assert quoted(charted, ADA, b"20150312", pulse="135", consciousness="Alert", oxygen_flow="0") == "done"
    assert charted.results()[-1].summary.endswith("total score: 3 (low-medium)")
    assert known(charted) == ("Example", "1950-03-12", "female")


def test_an_empty_birth_date_of_a_result_message_deletes_nothing(charted: Hospital) -> None:
    assert quoted(charted, ADA, b'""', pulse="75") == "done"
    assert known(charted) == ("Example", "1950-03-12", "female")
    assert outcomes(charted)[-1] == "prediction"


def test_the_source_of_patients_may_delete_a_birth_date(charted: Hospital) -> None:
    assert stated(charted, ADA, b'""') == "done"
    assert known(charted) == ("Example", None, "female")


# An age of which only the year or the month of birth is known


@pytest.mark.parametrize("born", [b"1950", b"195003"])
def test_a_year_of_birth_is_enough_for_a_limit_far_from_the_age(hospital: Hospital, born: bytes) -> None:
    assert stated(hospital, ADA, born) == "done"
    assert quoted(hospital, ADA, born) == "done"
    assert outcomes(hospital) == ["prediction"]


def test_a_year_of_birth_in_which_the_limit_lies_is_a_reason_that_names_it(hospital: Hospital) -> None:
    year = f"{hospital.clock.now().year - 16}".encode()
    assert stated(hospital, ADA, year) == "done"
    assert quoted(hospital, ADA, year) == "done"
    reason = f"date of birth is known only as {year.decode()} and the model is not for patients under 16 years"
    assert outcomes(hospital) == [reason]
    assert any(reason in note.get(3) for note in hospital.engine.received()[-1].all("NTE"))


def test_a_year_of_birth_is_enough_to_be_too_young(hospital: Hospital) -> None:
    year = f"{hospital.clock.now().year - 10}".encode()
    assert stated(hospital, ADA, year) == "done"
    assert quoted(hospital, ADA, year) == "done"
    assert outcomes(hospital) == ["the model is not for patients under 16 years"]


@pytest.mark.parametrize(
    ("born", "said"),
    [
        ("2022", "prediction"),
        ("202203", "prediction"),
        ("2020", "date of birth is known only as 2020 and the model is not for patients over 5 years"),
        ("1950", "the model is not for patients over 5 years"),
    ],
)
def test_a_year_of_birth_in_a_header_is_an_age_too(hospital: Hospital, born: str, said: str) -> None:
    film = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", PatientBirthDate=born, rows=256, columns=256)
    hospital.dicom(film)
    hospital.rest()
    assert outcomes(hospital) == [said]
    assert patient(hospital)["birthDate"] == (born if len(born) == 4 else f"{born[:4]}-{born[4:]}")


def test_the_admission_of_the_same_person_is_no_doubt(charted: Hospital) -> None:
    message = adt_a01(ADA, "A-last", charted.clock.now())
    send(charted, message)
    assert inbox_states(charted)[-1] == "done"
