"""Check that Python imports our packages, whose names are generic.

``pip`` lets two distributions install the same top-level package; the later one overwrites the earlier. A server whose
``inference`` belongs to another distribution must not start.
"""

from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from kernel.errors import Category, Problem

PACKAGES: Final = ("kernel", "privacy", "inference", "fhir_adapter", "dicom_node", "federated", "service")
"""Every package of the distribution ``ausculta``."""


def check_packages() -> None:
    """Return when every package is our own.

    Raises
    ------
    Problem
        ``conflict``, naming the package that another distribution has replaced or that is in another directory.
    """
    claimed = packages_distributions()
    home = Path(__file__).parent.parent
    for package in PACKAGES:
        spec = find_spec(package)
        foreign = set(claimed.get(package, ())) - {"ausculta"}
        if foreign or spec is None or spec.origin is None or Path(spec.origin).parent.parent != home:
            raise Problem(
                Category.CONFLICT, f"the package {package} is not Ausculta's: give Ausculta an environment of its own"
            )
