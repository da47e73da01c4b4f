"""What the console's routes take from a request."""

from collections.abc import Mapping
from typing import Annotated, TypeAlias

from fastapi import Depends

from privacy.principal import Principal
from service.console.guard import form, principal

Asker: TypeAlias = Annotated[Principal, Depends(principal)]
"""Who asks."""

Form: TypeAlias = Annotated[Mapping[str, str], Depends(form)]
"""The fields of a form."""
