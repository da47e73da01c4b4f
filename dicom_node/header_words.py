"""What a header says that an image shows: which body part, and whether it is a lateral view.

Devices state BodyPartExamined and ViewPosition, leave them out, or keep a default. Therefore the codes and the
descriptions count as well, in the languages of the table.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from dicom_node.study import Instance

FRONTAL: Final = frozenset({"PA", "AP"})
"""Views of a radiograph that is taken from the front or the back."""

_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "CHEST": "chest* thorax* torax* torace lung* poumon* pulmon* polmon* brustkorb* cxr",
        "ABDOMEN": "abdom* bauch* kub",
        "SPINE": "spine* spinal* wirbel* rachis colonna columna colonne vertebr* lws bws hws lumb* cervical* sacr*",
        "PELVIS": "pelvi* becken* bassin bacino",
        "SKULL": "skull* head schadel* crane cranio craneo cranial* sinus* orbit* facial* mandib* dental* zahn*",
        "NECK": "neck hals cou cuello collo",
        "SHOULDER": "shoulder* schulter* epaule* hombro* spalla clavic* scapul*",
        "ARM": "arm humer* forearm* oberarm* unterarm* bras brazo braccio radius ulna",
        "ELBOW": "elbow* ellenbog* ellbog* coude codo gomito",
        "WRIST": "wrist* handgelenk* poignet* muneca polso",
        "HAND": "hand* main mains mano manos mani finger* thumb* daumen doigt* dedo*",
        "HIP": "hip hips huft* hueft* hanche* cadera anca",
        "LEG": "leg legs femur* oberschenk* tibia* fibula* unterschenk* cuisse jambe",
        "KNEE": "knee* knie* genou* rodilla* ginocch* patell*",
        "ANKLE": "ankle* sprunggelenk* cheville* tobillo* caviglia",
        "FOOT": "foot feet fuss* pied pieds pie pies piede calcan* toe toes zeh*",
        "BREAST": "breast* mamm* brust seno",
        "RIB": "rib ribs rippe* cotes costill*",
    }
)
"""Body part (PS3.16 annex L) -> its words, without accents; ``*`` stands for any ending."""

_REGIONS: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("SCT", "51185008"): "CHEST",
        ("SCT", "816094009"): "CHEST",
        ("SCT", "43799004"): "CHEST",
        ("SCT", "39607008"): "CHEST",
        ("SRT", "T-D3000"): "CHEST",
        ("SNM3", "T-D3000"): "CHEST",
        ("SRT", "T-28000"): "CHEST",
    }
)
"""(CodingSchemeDesignator, CodeValue) of an anatomic region -> body part."""

_LATERAL: Final = "lat lateral* latero* seitlich* seite profil* perfil* ll rl lao rao oblique* schrag*"
_FRONTAL_WORDS: Final = "pa ap frontal* face"


def other_part(image: Instance, parts: Sequence[str], *, required: bool) -> str:
    """Return why the header does not say that an image shows one of some body parts; empty when it does.

    The anatomic region comes first, then the description that is nearest to the image and names a body part. No
    description outweighs a BodyPartExamined of another part.

    Parameters
    ----------
    image
        The image.
    parts
        The body parts that are wanted, as in BodyPartExamined.
    required
        Whether an image that states no body part at all is refused.
    """
    wanted = " or ".join(part.lower() for part in parts)
    if image.BodyPartExamined and image.BodyPartExamined not in parts:
        return f"the body part examined is not {wanted}"
    for scheme, value, meaning in image.AnatomicRegion:
        named = _named(meaning, parts) | {part for part in (_REGIONS.get((scheme, value)),) if part}
        return "" if named & set(parts) else f"the anatomic region is not {wanted}"
    for place, text in image.descriptions:
        named = _named(text, parts)
        if named & set(parts):
            return ""
        if named:
            return f"the {place} names {' and '.join(sorted(named)).lower()}, not {wanted}"
    if image.BodyPartExamined or not required:
        return ""
    return f"nothing in the header says that the image shows {wanted}"


def is_lateral(image: Instance) -> bool:
    """Return whether the header says that an image is a lateral or oblique view, whatever its ViewPosition says.

    A description of several views counts only for an image that does not state its own.
    """
    if any(direction[:1] in {"A", "P"} for direction in image.PatientOrientation):
        return True  # rows or columns run from front to back (PS3.3 C.7.6.1.1.1)
    texts = [*image.view_names, *(text for place, text in image.descriptions if place in NEAR)]
    if image.ViewPosition:
        return any(_has(text, _LATERAL) and not _has(text, _FRONTAL_WORDS) for text in texts)
    return any(_has(text, _LATERAL) for text in texts)


NEAR: Final = frozenset({"processing description", "series description", "protocol name"})
"""Descriptions of one image or series; the others are of a procedure, which may have several views."""


def _named(text: str, parts: Sequence[str]) -> set[str]:
    known = {part for part, words in _PARTS.items() if _has(text, words)}
    return known | {part for part in parts if _has(text, part.lower())}


def _has(text: str, words: str) -> bool:
    """Return whether a text holds one of some words, without regard to accents and capitals."""
    plain = unicodedata.normalize("NFKD", text.casefold()).replace(".", "")
    found = re.findall(r"[a-z0-9]+", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    for word in words.split():
        stem = word.removesuffix("*")
        if any(one == word or (stem != word and one.startswith(stem)) for one in found):
            return True
    return False
