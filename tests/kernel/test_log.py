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


def test_an_exception_is_written_with_the_line_that_raised_it() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        int("Doe^John")
    except ValueError as failure:
        get_logger("test").error("broken", failure=failure)
    line = json.loads(stream.getvalue())
    assert line["failure"].startswith("ValueError at kernel/test_log.py:")
