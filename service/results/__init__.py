"""Results and their states: the one owner of the table ``results``."""

from service.results.records import LIVE, NewResult, State, StoredResult
from service.results.store import Results

__all__ = ["LIVE", "NewResult", "Results", "State", "StoredResult"]
