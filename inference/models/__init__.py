"""The bundled models: one folder each, listed here and nowhere else."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MODELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "news2": "inference.models.news2",
        "cxr-pneumonia": "inference.models.cxr_pneumonia",
    }
)
"""Model name -> the package that is its folder."""
