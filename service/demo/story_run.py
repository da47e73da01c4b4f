"""Runs the scenario: sends each step and waits until its expected result has been received."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kernel.errors import Problem
from service.demo.server import Server
from service.demo.stand_ins import Document, StandIns
from service.demo.story import Expected, Interface, Step

QUERY_INTERVAL_S: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's result, as the server reports it."""

    #: The result's id.
    result: str
    model: str
    text: str


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step and its state so far."""

    number: int
    step: Step
    #: The id with which it was sent; empty before that.
    identifier: str = ""
    answer: Answer | None = None
    documents: tuple[Document, ...] = ()
    #: Why the interface refused it.
    refusal: str = ""

    @property
    def model_and_patient(self) -> tuple[str, str]:
        """The model that runs and its patient; an empty name when no model runs."""
        return (self.step.expected.model if self.step.expected else "", self.step.patient.mrn)

    @property
    def missing(self) -> str:
        """What has not been received yet, in words; empty when everything has."""
        name = f"{self.number} ({self.step.title})"
        if self.refusal:
            return f"step {name} was not taken: {self.refusal}"
        if not self.identifier:
            return f"step {name} was not sent"
        expected = self.step.expected
        return f"of step {name} {absent}" if expected and (absent := self._absent(expected)) else ""

    def _absent(self, expected: Expected) -> str:
        if self.answer is None:
            return f"there is no result of {expected.model}"
        if expected.text not in self.answer.text:
            return f"{expected.model} said “{self.answer.text}” instead of “{expected.text.strip()}”"
        absent = expected.documents - {(document.place, document.kind) for document in self.documents}
        listed = ", ".join(f"{kind} at the {place}" for place, kind in sorted(absent))
        return f"{expected.model}'s {listed} did not arrive" if absent else ""


class StoryRunner:
    """Sends a scenario to a server and queries the stand-ins.

    Parameters
    ----------
    server
        The server to send to.
    stand_ins
        The stand-ins that must receive the results.
    say
        Called with each step when it has been sent, and again when its model has a result.
    deadline
        When to stop waiting, on the monotonic clock.
    """

    def __init__(self, server: Server, stand_ins: StandIns, say: Callable[[StepReport], None], deadline: float) -> None:
        self._server = server
        self._stand_ins = stand_ins
        self._say = say
        self._deadline = deadline
        self._patients: dict[str, str] = {}

    def run(self, story: Sequence[Step]) -> tuple[StepReport, ...]:
        """Send every step, wait for each score before the next step, then wait until every result has been received.

        Returns
        -------
        tuple of StepReport
            One for each step; the scenario stops at a step that an interface refuses, and waiting ends at the deadline.
        """
        reports = [StepReport(number=number, step=step) for number, step in enumerate(story, start=1)]
        for place, unsent in enumerate(reports):
            reports[place] = self._send(unsent)
            if reports[place].refusal:
                return tuple(reports)
            # a study is complete only after a quiet time; the next steps are sent meanwhile
            if unsent.step.interface is not Interface.DICOM:
                self._wait(reports, [place], lambda report: report.answer is not None)
        self._wait(reports, range(len(reports)), lambda report: not report.missing)
        return tuple(reports)

    def _send(self, report: StepReport) -> StepReport:
        try:
            sent = replace(report, identifier=self._server.send(report.step))
        except Problem as problem:
            sent = replace(report, refusal=problem.detail)
        self._say(sent)
        return sent

    def _wait(self, reports: list[StepReport], places: Iterable[int], enough: Callable[[StepReport], bool]) -> None:
        """Query repeatedly, until each step has reached the wanted state or the deadline passes."""
        waiting = [place for place in places if reports[place].step.expected]
        while True:
            for place in waiting:
                before, reports[place] = reports[place], self._query(reports[place], reports)
                if before.answer is None and reports[place].answer is not None:
                    self._say(reports[place])
            waiting = [place for place in waiting if not enough(reports[place])]
            if not waiting or time.monotonic() >= self._deadline:
                return
            time.sleep(QUERY_INTERVAL_S)

    def _query(self, report: StepReport, reports: Sequence[StepReport]) -> StepReport:
        answer = self._answer(report, reports)
        if answer is None:
            return report
        study = report.identifier if report.step.interface is Interface.DICOM else ""
        return replace(report, answer=answer, documents=tuple(self._stand_ins.documents(answer.result, study)))

    def _answer(self, report: StepReport, reports: Sequence[StepReport]) -> Answer | None:
        """Return a step's result; results of one model and patient are in the order of their steps."""
        wanted = report.model_and_patient
        before = sum(earlier.model_and_patient == wanted for earlier in reports[: report.number - 1])
        subject = self._subject(report.step.patient.mrn)
        if subject is None:
            return None
        with self._server.application.database.read() as connection:
            row = self._server.application.results.nth(connection, wanted[0], subject, before)
        return Answer(result=row.id, model=f"{row.model} {row.version}", text=row.summary) if row else None

    def _subject(self, number: str) -> str | None:
        if number not in self._patients and (found := self._server.patient(number)):
            self._patients[number] = found
        return self._patients.get(number)
