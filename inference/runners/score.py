"""Clinical scores: a pure function in the folder's ``model.py`` from feature values to points.

``model.py`` defines ``score(readings) -> tuple[Score, ...]``, one :class:`Score` per output of the manifest, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.contract import ModelInput
from inference.features.extract import Extraction, compile_features
from inference.outputs import make_output
from inference.runners.base import Answer, Decoded, Runner
from inference.runners.tabular import decode_features
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class Score:
    """One output of a score."""

    value: float
    #: One of the manifest's bands of the output.
    band: str
    #: The arithmetic and what it calls for, in sentences.
    text: str


Scores = tuple[Score, ...]


class ScoreRunner(Runner[Extraction, Sequence[Extraction], Scores]):
    """Runs a score; needs no device."""

    kinds = frozenset({"facts"})

    def setup(self, device: str) -> None:  # noqa: ARG002 - arithmetic runs anywhere
        """Find the function and compile the features.

        Raises
        ------
        Problem
            ``incorrect`` when the folder has no ``model.py``.
        """
        if self.model.code is None:
            raise Problem(Category.INCORRECT, f"the model folder {self.model.path.name} has no model.py")
        self._score = self.model.code.score
        self._extract = compile_features(self.model.features)

    def decode(self, given: ModelInput) -> Decoded[Extraction]:
        """Extract the features."""
        return decode_features(self._extract, given, self.model.manifest.limits)

    def batch(self, items: Sequence[Extraction]) -> Sequence[Extraction]:
        """Return the items."""
        return items

    def predict(self, batch: Sequence[Extraction]) -> Sequence[Scores]:
        """Score each patient."""
        return [self._score(extraction.readings) for extraction in batch]

    def encode(self, item: Extraction, raw: Scores) -> Answer:  # noqa: ARG002 - a score has its own text
        """Express each score in the manifest's codes.

        Parameters
        ----------
        item
            The patient's features; not used.
        raw
            One score per output of the manifest, in order.
        """
        pairs = zip(self.model.manifest.outputs, raw, strict=True)
        outputs = tuple(
            make_output(spec, score.value, band=score.band, text=score.text, notice=self.opening())
            for spec, score in pairs
        )
        return Answer(outputs=outputs)
