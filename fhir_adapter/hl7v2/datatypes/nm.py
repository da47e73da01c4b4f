"""NM: a number (section 2A.3.50), kept to its last digit."""

import re
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})")


def number(text: str) -> Decimal | None:
    """Return the number with the precision it was sent in, nothing when the text is not one."""
    stripped = text.strip()
    return Decimal(stripped.rstrip(".") or "0") if _NUMBER.fullmatch(stripped) else None
