"""One error vocabulary: every category has a code in every protocol."""

import pytest

from kernel.errors import ACK_CODE, DIMSE_STATUS, HTTP_STATUS, ISSUE_CODE, JOB_DECISION, Category, Problem, as_problem


@pytest.mark.parametrize("table", [ACK_CODE, DIMSE_STATUS, HTTP_STATUS, ISSUE_CODE, JOB_DECISION])
def test_every_table_has_all_nine_categories(table) -> None:
    assert set(table) == set(Category)
    assert len(Category) == 9


def test_no_category_maps_to_a_success_code() -> None:
    assert "AA" not in ACK_CODE.values()
    assert 0x0000 not in DIMSE_STATUS.values()
    assert min(HTTP_STATUS.values()) >= 400


def test_an_unexpected_exception_shows_a_peer_nothing() -> None:
    problem = as_problem(ValueError("Doe^John"))
    assert (problem.category, problem.detail) == (Category.FAULT, "internal error")
    assert "Doe" not in str(problem)
    assert "Doe" in problem.diagnostics


def test_a_problem_is_passed_on_unchanged() -> None:
    problem = Problem(Category.BUSY, "later")
    assert as_problem(problem) is problem


def test_too_deep_input_is_the_sender_s_mistake() -> None:
    assert as_problem(RecursionError()).category is Category.INCORRECT
