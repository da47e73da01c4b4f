"""The log states events and contains no patient data."""

import io
import json

from kernel.errors import Category, Problem
from kernel.log import configure_logging, get_logger


def test_exceptions_and_long_values_leave_no_text_behind() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    get_logger("room").warning(
        "message_refused",
        failure=ValueError("Doe^John"),
        problem=Problem(Category.INCORRECT, "detail", diagnostics="Doe^Jane"),
        text="x" * 1000,
    )
    line = json.loads(stream.getvalue())
    assert line["event"] == "message_refused"
    assert line["failure"] == "ValueError"
    assert line["problem"] == "problem:incorrect"
    assert len(line["text"]) == 200
    assert "Doe" not in stream.getvalue()
