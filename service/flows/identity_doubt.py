"""What is done when the patient's identity is in doubt: nothing is scored, and each model that is concerned says so.

A message or a study that contradicts what is known of its identifier is held (:mod:`service.identity_holds`). A person
accepts it as the patient's, or rejects it (:mod:`service.operations.identity`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

import orjson
from sqlalchemy import Connection

from dicom_node.demographics import birth_of, name_of, sex_of
from dicom_node.study import Study
from fhir_adapter.same_person import Attribute, Person, PersonName, doubts, person_of
from inference.catalogue import Catalogue
from inference.registry import ModelRow
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.worker import Commit
from service.core import CoreServices
from service.flows.inputs.contract import NoInput, StudyFiles
from service.flows.read_set import newest_version
from service.identity_holds import IN_DOUBT, Contradiction, IdentityHold, Reason
from service.triggers import enqueue
from service.triggers.contract import Change, Run
from service.triggers.table import TRIGGERS

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MessageDoubt:
    """The doubt that a held message raises."""

    held: IdentityHold

    @property
    def given(self) -> NoInput:
        """Why no model answers."""
        reason = f"{IN_DOUBT}: a message contradicts what is known of the patient"
        return NoInput(reason=reason, sources=(self.held.source,))

    def unless_decided(self, core: CoreServices, publish: Commit) -> Commit:
        """Return a commit that publishes the doubt, or raises ``busy`` when a person has decided meanwhile.

        Parameters
        ----------
        core
            What every flow uses.
        publish
            Publishes it.
        """

        def commit(tx: Transaction) -> None:
            tx.lock(f"identity:{self.held.subject}:{self.held.patient}")
            if core.holds.one(tx.connection, self.held.id).state != "open":
                raise Problem(Category.BUSY, "a person has decided about the patient identity meanwhile")
            publish(tx)

        return commit


@dataclass(frozen=True, kw_only=True)
class StudyDoubt:
    """The doubt that a study raises."""

    contradiction: Contradiction
    #: None when it is new.
    held: IdentityHold | None
    #: Why no model answers; None when a person has accepted the study as the patient's.
    given: NoInput | None


def doubt_of_message(core: CoreServices, hold: str) -> MessageDoubt | None:
    """Return the doubt of a hold; None when a person has decided.

    Parameters
    ----------
    core
        What every flow uses.
    hold
        Id of the hold.
    """
    with core.database.read() as connection:
        held = core.holds.one(connection, hold)
    return MessageDoubt(held=held) if held.state == "open" else None


def doubt_of_study(core: CoreServices, connection: Connection, files: StudyFiles, patient: str) -> StudyDoubt | None:
    """Return why nobody can say whose study it is; None when there is no doubt.

    Parameters
    ----------
    core
        What every flow uses.
    connection
        Where to read.
    files
        The study.
    patient
        Reference of the Patient whom its header names.
    """
    study = files.study
    stated = tuple(_person(*one) for one in study.people)
    stored = newest_version(connection, core.store, "Patient", patient.removeprefix("Patient/"))
    known = Person() if stored is None else person_of(orjson.loads(stored.content))
    reasons = _reasons(study, stated, known)
    found = Contradiction(kind="study", subject=study.StudyInstanceUID, patient=patient, reasons=reasons, stated=stated)
    held = core.holds.find(connection, found)
    is_rejected = held is not None and held.state == "rejected"  # which stands, whatever the chart says by now
    if not reasons and not is_rejected:
        return None
    return StudyDoubt(contradiction=found, held=held, given=_given(files, held))


def hold_study(core: CoreServices, tx: Transaction, files: StudyFiles, patient: str, doubt: StudyDoubt | None) -> None:
    """Hold a study whose patient is in doubt, when what was read about that is still so.

    Parameters
    ----------
    core
        What every flow uses.
    tx
        The transaction of the study's results.
    files
        The study.
    patient
        Reference of the Patient whom its header names.
    doubt
        What :func:`doubt_of_study` returned.

    Raises
    ------
    Problem
        ``busy`` when the Patient was changed, or a person has decided, meanwhile.
    """
    tx.lock(patient)
    if doubt_of_study(core, tx.connection, files, patient) != doubt:
        raise Problem(Category.BUSY, "the patient of the study was changed by somebody else meanwhile")
    if doubt is not None and doubt.held is None:
        core.holds.hold(tx, doubt.contradiction)
        _log.warning("study_patient_identity_in_doubt", reasons=list(doubt.contradiction.reasons))


def _given(files: StudyFiles, held: IdentityHold | None) -> NoInput | None:
    if held is not None and held.state == "accepted":
        return None
    if held is not None and held.state == "rejected":
        reason = f"{IN_DOUBT}: a person has decided that the study is not of this patient"
        return NoInput(reason=reason, sources=(*files.sources, held.source))
    if files.study.names_several_patients:
        return NoInput(reason=f"{IN_DOUBT}: the study names more than one patient", sources=files.sources)
    return NoInput(reason=f"{IN_DOUBT}: the study contradicts what is known of the patient", sources=files.sources)


def _reasons(study: Study, stated: Sequence[Person], known: Person) -> tuple[Reason, ...]:
    pairs = [*((person, known) for person in stated), *combinations(stated, 2)]
    found: set[Attribute] = {attribute for one, other in pairs for attribute in doubts(one, other)}
    attributes: tuple[Attribute, ...] = tuple(it for it in get_args(Attribute) if it in found)
    return (*attributes, "several-patients") if study.names_several_patients else attributes


def _person(PatientName: str, PatientBirthDate: str, PatientSex: str) -> Person:
    family, given = name_of(PatientName)
    return Person(
        names=(PersonName(family=family, given=given),) if family or given else (),
        birth_date=birth_of(PatientBirthDate),
        sex=sex_of(PatientSex) or "",
    )


def hold_message(
    core: CoreServices, tx: Transaction, found: Contradiction, message: str, changes: Iterable[Change]
) -> None:
    """Hold a message, and have each model that it concerns say that the patient's identity is in doubt.

    A message that states what a person has rejected before is rejected too: no model should have read it.

    Parameters
    ----------
    core
        What every flow uses.
    tx
        The transaction of the message's job.
    found
        How it contradicts what is known.
    message
        Its id in the inbox.
    changes
        What it would have changed.
    """
    held = core.holds.hold_message(tx, found, message)
    if held.state == "rejected":
        core.inbox.mark(tx, message, "rejected")
        return
    core.inbox.mark(tx, message, "held")
    _log.warning("hl7_patient_identity_in_doubt", message=message, reasons=list(found.reasons))
    for model, run in _concerned(core, tx.connection, found.patient, changes):
        enqueue.state_doubt(tx, core.jobs, model, run, held.id)


def ask_those_who_doubted(core: CoreServices, tx: Transaction, patient: str) -> None:
    """Ask the models that have a result about a patient again, now that a message of theirs was accepted.

    Parameters
    ----------
    core
        What every flow uses.
    tx
        The transaction that stores the message.
    patient
        Reference of the patient.
    """
    names = core.results.models_of(tx.connection, patient)
    for model in Catalogue().serving(tx.connection):
        if model.row.name in names and model.manifest.trigger.kind not in {"study", "document"}:
            enqueue.assess(tx, core.jobs, model.row, Run(patient=patient))


def _concerned(
    core: CoreServices, connection: Connection, patient: str, changes: Iterable[Change]
) -> Sequence[tuple[ModelRow, Run]]:
    """Return the models that the changes would have run, and on what."""
    models = [one for one in Catalogue().serving(connection) if one.manifest.trigger.kind != "study"]
    answered = core.results.models_of(connection, patient)
    found: dict[tuple[str, str, str | None], tuple[ModelRow, Run]] = {}
    for change in changes:
        for model in models:
            row, rule = model.row, TRIGGERS[model.manifest.trigger.kind]
            for decision in rule.decide(model.manifest.trigger, change) if change.type in rule.types else ():
                run = decision if isinstance(decision, Run) else Run(patient=patient)
                if not run.again or row.name in answered:
                    found[row.name, row.version, run.document] = row, run
    return tuple(found.values())
