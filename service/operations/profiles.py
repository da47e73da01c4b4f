"""Operations on the profiles that ``$validate`` knows: add a package."""

import re
from pathlib import Path
from typing import Final

from fhir_adapter.validation.packages import packed, resources
from kernel.durable import sync_folder
from kernel.errors import Category, Problem
from privacy.principal import Principal
from service.operations.context import OperationContext

PROFILES: Final = "profiles"
"""The folder of the packages, within the data folder."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add(context: OperationContext, principal: Principal, folder: Path, package: Path) -> int:
    """Add a package of profiles, or replace the one of the same name; a running server knows it at once.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    folder
        The folder of the packages.
    package
        A ``.tgz`` of FHIR's package format, or a folder with its files.

    Returns
    -------
    int
        How many profiles it has.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` without such a file; ``incorrect`` when it cannot be used: it is no package, its
        name has other characters than letters, digits, ``.``, ``_`` and ``-``, or a profile has no snapshot.
    """
    context.authorize(principal, "profiles-add")
    name = package.name.removesuffix(".tgz")
    if not _NAME.fullmatch(name):
        raise Problem(Category.INCORRECT, "the name of a package has letters, digits, '.', '_' and '-' only")
    lines = packed(resources(package))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folder / f"{name}.partial"
    partial.write_bytes(lines)
    partial.replace(folder / f"{name}.ndjson")
    sync_folder(folder)
    context.database.write(lambda tx: context.record(tx, principal, "profiles-added", f"urn:ausculta:profiles:{name}"))
    return lines.count(b'"resourceType":"StructureDefinition"')
