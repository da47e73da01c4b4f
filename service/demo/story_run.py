"""Running the story: each step is sent, and followed until what it must lead to has been received."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kernel.errors import Problem
from service.demo.server import Server
from service.demo.stand_ins import Document, StandIns
from service.demo.story import Expected, Interface, Step

LOOK_AGAIN_S: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said, in the server's own words."""

    #: The result's id.
    result: str
    model: str
    says: str


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A step, and what has come of it so far."""

    number: int
    step: Step
    #: The id under which it was sent; empty while it has not been.
    identifier: str = ""
    answer: Answer | None = None
    documents: tuple[Document, ...] = ()
    #: Why the interface did not take it.
    refusal: str = ""

    @property
    def asks(self) -> tuple[str, str]:
        """Which model is asked about whom; an empty name where none is."""
        return (self.step.expected.model if self.step.expected else "", self.step.patient.mrn)

    @property
    def lacks(self) -> str:
        """What has not come of it, in words; empty when all has."""
        name = f"{self.number} ({self.step.title})"
        if self.refusal:
            return f"step {name} was not taken: {self.refusal}"
        if not self.identifier:
            return f"step {name} was not sent"
        expected = self.step.expected
        return f"of step {name} {missing}" if expected and (missing := self._missing(expected)) else ""

    def _missing(self, expected: Expected) -> str:
        if self.answer is None:
            return f"there is no result of {expected.model}"
        if expected.says not in self.answer.says:
            return f"{expected.model} said “{self.answer.says}” instead of “{expected.says.strip()}”"
        absent = expected.documents - {(document.place, document.kind) for document in self.documents}
        listed = ", ".join(f"{kind} at the {place}" for place, kind in sorted(absent))
        return f"{expected.model}'s {listed} did not arrive" if absent else ""


class StoryRunner:
    """Sends a story to a server and watches the stand-ins.

    Parameters
    ----------
    server
        Where to send.
    around
        Where results must arrive.
    say
        Called with each step when it has been sent, and again when a model has answered.
    give_up_at
        When to stop waiting, on the monotonic clock.
    """

    def __init__(self, server: Server, around: StandIns, say: Callable[[StepReport], None], give_up_at: float) -> None:
        self._server = server
        self._around = around
        self._say = say
        self._give_up_at = give_up_at
        self._patients: dict[str, str] = {}

    def run(self, story: Sequence[Step]) -> tuple[StepReport, ...]:
        """Send every step, each score being waited for before the next step, then wait until all has arrived.

        Returns
        -------
        tuple of StepReport
            One for each step; the story stops at a step that a interface refuses, and waiting ends when time is up.
        """
        reports = [StepReport(number=number, step=step) for number, step in enumerate(story, start=1)]
        for place, unsent in enumerate(reports):
            reports[place] = self._send(unsent)
            if reports[place].refusal:
                return tuple(reports)
            if (
                unsent.step.interface is not Interface.DICOM
            ):  # a study is read when it has rested; the hospital goes on meanwhile
                self._wait(reports, [place], lambda one: one.answer is not None)
        self._wait(reports, range(len(reports)), lambda one: not one.lacks)
        return tuple(reports)

    def _send(self, one: StepReport) -> StepReport:
        try:
            sent = replace(one, identifier=self._server.send(one.step))
        except Problem as problem:
            sent = replace(one, refusal=problem.detail)
        self._say(sent)
        return sent

    def _wait(self, reports: list[StepReport], places: Iterable[int], enough: Callable[[StepReport], bool]) -> None:
        """Look again and again, until each step has come far enough or time is up."""
        waiting = [place for place in places if reports[place].step.expected]
        while True:
            for place in waiting:
                before, reports[place] = reports[place], self._look(reports[place], reports)
                if before.answer is None and reports[place].answer is not None:
                    self._say(reports[place])
            waiting = [place for place in waiting if not enough(reports[place])]
            if not waiting or time.monotonic() >= self._give_up_at:
                return
            time.sleep(LOOK_AGAIN_S)

    def _look(self, one: StepReport, reports: Sequence[StepReport]) -> StepReport:
        answer = self._answer(one, reports)
        if answer is None:
            return one
        study = one.identifier if one.step.interface is Interface.DICOM else ""
        return replace(one, answer=answer, documents=tuple(self._around.documents(answer.result, study)))

    def _answer(self, one: StepReport, reports: Sequence[StepReport]) -> Answer | None:
        """Return a step's result: as many results as earlier steps expect of the same model and patient precede it."""
        about = one.asks
        before = sum(it.asks == about for it in reports[: one.number - 1])
        subject = self._subject(one.step.patient.mrn)
        if subject is None:
            return None
        with self._server.application.database.read() as connection:
            row = self._server.application.results.nth(connection, about[0], subject, before)
        return Answer(result=row.id, model=f"{row.model} {row.version}", says=row.summary) if row else None

    def _subject(self, number: str) -> str | None:
        if number not in self._patients and (found := self._server.patient(number)):
            self._patients[number] = found
        return self._patients.get(number)
