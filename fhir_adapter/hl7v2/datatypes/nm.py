"""NM: a number (section 2A.3.50), kept with all its digits."""

import re
from decimal import Decimal
from typing import Final

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})")


def number(text: str) -> Decimal | None:
    """Return the number with its precision; None when the text is not a number."""
    stripped = text.strip()
    return Decimal(stripped.rstrip(".") or "0") if _NUMBER.fullmatch(stripped) else None
