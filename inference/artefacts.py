"""Artefacts as files: what a blob holds of a heat map or a mask, and which outputs name one.

- two dimensions: a grey PNG of 8 bits; a mask keeps its numbers, a heat map is rounded to steps of 1/255
- three dimensions: the array as ``.npy`` (NumPy format 1.0), compressed with gzip (RFC 1952)

Equal arrays become equal bytes, so that they are stored once.
"""

import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.contract import Artefact, MaskReference, Output

PNG: Final = "image/png"
NPY: Final = "application/x-npy+gzip"


@dataclass(frozen=True, kw_only=True)
class EncodedArtefact:
    """An artefact as bytes."""

    media_type: str
    content: bytes


def encode(artefact: Artefact) -> EncodedArtefact:
    """Write an artefact as a file."""
    values = artefact.values if artefact.kind == "mask" else as_bytes(artefact.values)
    stream = io.BytesIO()
    if values.ndim == 2:
        Image.fromarray(values).save(stream, format="PNG")
        return EncodedArtefact(media_type=PNG, content=stream.getvalue())
    np.lib.format.write_array(stream, values, version=(1, 0), allow_pickle=False)
    return EncodedArtefact(media_type=NPY, content=gzip.compress(stream.getvalue(), compresslevel=6, mtime=0))


def decode(media_type: str, content: bytes) -> NDArray[np.uint8]:
    """Read the array of an artefact; 255 is 1.0 of a heat map.

    Parameters
    ----------
    media_type, content
        As :func:`encode` returned them.

    Returns
    -------
    NDArray
        (rows, columns) or (slices, rows, columns), unsigned bytes.

    Raises
    ------
    ValueError
        When the media type is not one of an artefact.
    """
    if media_type == PNG:
        return np.asarray(Image.open(io.BytesIO(content)), dtype=np.uint8)
    if media_type == NPY:
        read = np.lib.format.read_array(io.BytesIO(gzip.decompress(content)), allow_pickle=False)
        return np.asarray(read, dtype=np.uint8)
    raise ValueError(f"{media_type} is no media type of an artefact")


def as_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as unsigned bytes, 1.0 as 255; values outside are clipped."""
    return np.asarray(np.rint(np.clip(values, 0.0, 1.0) * 255), dtype=np.uint8)


def artefacts_fit(outputs: Iterable[Output], artefacts: Iterable[Artefact]) -> bool:
    """Return whether the artefacts have unique names and every mask among the outputs names one of that kind.

    Parameters
    ----------
    outputs
        Of one answer.
    artefacts
        Of the same answer.
    """
    given = list(artefacts)
    kinds = {artefact.name: artefact.kind for artefact in given}
    named = [output.detail.artefact for output in outputs if isinstance(output.detail, MaskReference)]
    return len(kinds) == len(given) and all(kinds.get(name) == "mask" for name in named)
