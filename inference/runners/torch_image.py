"""Image networks in PyTorch: weights from safetensors, the network itself from the folder's ``model.py``.

``model.py`` defines ``network()`` (with ``features(images)`` and ``head(evidence) -> logits (n,)``),
``prepare(pixels)`` (image -> the network's input) and ``crop(rows, columns)`` (the part that the network sees).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from inference import likeness
from inference.contract import Artefact, ImageInput, InputUsed, ModelInput, Pixels
from inference.explain import enlarge, grad_cam
from inference.folder import WEIGHTS
from inference.outputs import make_output
from inference.runners.base import Answer, Declined, Decoded, Runner
from inference.runners.torch_device import is_out_of_memory
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """The tensor that the network takes, and the size of the image that it was made from."""

    #: (channels, height, width).
    image: Tensor
    #: (rows, columns) of the image it was made from.
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ImageEvidence:
    """The probability that the network computed for one image, and the map of where the evidence for it lies."""

    #: In [0, 1].
    probability: float
    #: (h, w) of the network's last map, in [0, 1].
    evidence: Pixels
    #: How unlike the training images the image is; above 1 it is declined.
    unlikeness: float


class ImageClassifierRunner(Runner[PreparedImage, Tensor, ImageEvidence]):
    """Runs a network that detects one finding on an image; the same code on ``cpu`` and ``cuda``."""

    kinds = frozenset({"image"})

    def setup(self, device: str) -> None:
        """Build the network and load its weights onto the device.

        Raises
        ------
        Problem
            ``incorrect`` when the folder has no ``model.py``.
        """
        if self.model.code is None:
            raise Problem(Category.INCORRECT, f"the model folder {self.model.path.name} has no model.py")
        self._device = torch.device(device)
        if device == "cuda":
            # Models are approved in full single precision; TF32 would round their inputs to ten bits.
            torch.backends.cudnn.allow_tf32 = False
        self._network = self.model.code.network()
        self._network.load_state_dict(load(self.model.files.get(WEIGHTS, b"")), strict=True)
        self._network.eval().requires_grad_(requires_grad=False).to(self._device)
        summary = self.model.files.get(likeness.FILE)
        self._likeness = likeness.read_likeness(summary) if summary is not None else None
        self._prepare, self._crop = self.model.code.prepare, self.model.code.crop

    def decode(self, given: ModelInput) -> Decoded[PreparedImage]:
        """Bring the image to the network's shape.

        Raises
        ------
        Problem
            ``fault`` when the input is not an image.
        """
        if not isinstance(given, ImageInput):
            raise Problem(Category.FAULT, "an image model was given facts")
        rows, columns = given.pixels.shape
        image = self._prepare(np.ascontiguousarray(given.pixels, dtype=np.float32))
        inputs = tuple(
            InputUsed(name="image", value=None, unit=None, effective=given.acquired_at, source=source)
            for source in given.sources
        )
        return Decoded(item=PreparedImage(image=image, size=(rows, columns)), inputs=inputs, shape=tuple(image.shape))

    def batch(self, items: Sequence[PreparedImage]) -> Tensor:
        """Stack images to (n, channels, height, width) on the device."""
        return torch.stack([item.image for item in items]).to(self._device, non_blocking=True)

    def predict(self, batch: Tensor) -> Sequence[ImageEvidence]:
        """Run the network once, forwards, and its last step backwards, which Grad-CAM needs."""
        with torch.no_grad():
            evidence = self._network.features(batch)
        evidence.requires_grad_(requires_grad=True)
        with torch.enable_grad():
            logits = self._network.head(evidence)
            (gradients,) = torch.autograd.grad(logits.sum(), evidence)
        with torch.no_grad():
            probabilities = torch.sigmoid(logits).double().cpu().tolist()
            maps = grad_cam(evidence, gradients).float().cpu().numpy()
            unlike = self._unlikeness(batch, evidence)
        return [
            ImageEvidence(probability=probability, evidence=evidence, unlikeness=unlikeness)
            for probability, evidence, unlikeness in zip(probabilities, maps, unlike, strict=True)
        ]

    def _unlikeness(self, batch: Tensor, evidence: Tensor) -> Sequence[float]:
        if self._likeness is None:
            return [0.0] * len(batch)
        images, features = (one.double().cpu().numpy() for one in (batch.flatten(1), evidence.mean(dim=(2, 3))))
        found: list[float] = self._likeness.unlikeness(images, features).tolist()
        return found

    def encode(self, item: PreparedImage, raw: ImageEvidence) -> Answer:
        """Express the result in the manifest's codes, and lay the evidence over the image.

        The heat map is scaled by the probability: a low probability shows little evidence.

        Parameters
        ----------
        item
            The prepared image, whose ``size`` the heat map gets.
        raw
            The network's probability and (h, w) map for it.

        Raises
        ------
        Declined
            When the image is unlike those that the network was made from.
        """
        if not raw.unlikeness <= 1:  # also when it is not a number
            raise Declined(likeness.REASON)
        (spec,) = self.model.manifest.outputs
        heat_map = np.zeros(item.size, dtype=np.float32)
        seen = heat_map[self._crop(*item.size)]
        seen[:] = enlarge(raw.evidence, *seen.shape) * np.float32(raw.probability)
        threshold = spec.bands[-1].at_least
        summary = f"probability {raw.probability:.2f}, {spec.band(raw.probability)} (threshold {threshold:.2f})"
        text = " ".join((f"{spec.display}: {summary}.", *self.model.manifest.warnings))
        output = make_output(spec, raw.probability, text=text, notice=self.opening())
        artefact = Artefact(name="heat-map", kind="heat-map", values=heat_map, geometry="pixels of the input image")
        return Answer(outputs=(output,), artefacts=(artefact,))

    def out_of_memory(self, failure: BaseException) -> bool:
        """Return whether a smaller batch could have succeeded, on either device."""
        return is_out_of_memory(failure)
