"""The batcher: bounded, a failing item affects no other, every request is answered. Time is simulated."""

import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from inference.batching import Batcher, QueueLimits
from kernel.errors import Category, Problem


class Model:
    """Doubles numbers, records its batches, and can be blocked."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.largest = 1000

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.seen.append(list(items))
        self.entered.set()
        assert self.go.wait(20)
        if len(items) > self.largest:
            raise MemoryError
        if 13 in items:
            raise ValueError
        if 17 in items:
            raise Problem(Category.BUSY, "the remote model is busy")
        return [2 * item for item in items if item != 7]


def out_of_memory(failure: BaseException) -> bool:
    return isinstance(failure, MemoryError)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def turn() -> threading.Lock:
    return threading.Lock()


@pytest.fixture
def batcher(model: Model, turn: threading.Lock) -> Iterator[Batcher[int, int]]:
    limits = QueueLimits(longest_queue=8, largest_batch=8)
    made = Batcher(model, turn, limits, out_of_memory=out_of_memory, monotonic=lambda: 100.0)
    yield made
    model.go.set()
    made.close()


def hold(model: Model, batcher: Batcher[int, int]) -> Future[int]:
    """Keep the model busy with one item, so that what follows waits together."""
    model.go.clear()
    first = batcher.submit(0, deadline=101)
    assert model.entered.wait(20)
    return first


def test_a_single_request_runs_immediately_without_a_batch(model: Model, batcher: Batcher[int, int]) -> None:
    assert batcher.submit(21, deadline=101).result(20) == 42
    assert model.seen == [[21]]


def test_requests_that_wait_together_run_as_one_batch(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    answers = [batcher.submit(item, deadline=101) for item in (1, 2, 3)]
    model.go.set()
    assert [answer.result(20) for answer in answers] == [2, 4, 6]
    assert model.seen == [[0], [1, 2, 3]]


def test_a_busy_device_delays_a_batch_for_a_limited_time_only(
    model: Model, batcher: Batcher[int, int], turn: threading.Lock
) -> None:
    with turn:
        assert batcher.submit(1, deadline=101).result(20) == 2


def test_a_full_queue_refuses_new_requests_and_keeps_accepted_ones(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    answers = [batcher.submit(1, deadline=101) for _ in range(8)]
    with pytest.raises(Problem) as refused:
        batcher.submit(1, deadline=101)
    assert refused.value.category is Category.BUSY
    model.go.set()
    assert [answer.result(20) for answer in answers] == [2] * 8


def test_what_the_next_batch_takes_does_not_count_as_waiting(model: Model, turn: threading.Lock) -> None:
    limits = QueueLimits(longest_queue=1, largest_batch=2, linger_s=20)
    batcher = Batcher(model, turn, limits, out_of_memory=out_of_memory, monotonic=lambda: 100.0)
    with turn:
        answers = [batcher.submit(item, deadline=101) for item in (1, 2, 3)]
        with pytest.raises(Problem) as refused:
            batcher.submit(4, deadline=101)
        assert refused.value.category is Category.BUSY
    assert [answer.result(20) for answer in answers] == [2, 4, 6]
    batcher.close()


def test_urgent_requests_run_before_routine_ones_that_waited_longer(model: Model, turn: threading.Lock) -> None:
    limits = QueueLimits(longest_queue=8, largest_batch=2)
    batcher = Batcher(model, turn, limits, out_of_memory=out_of_memory, monotonic=lambda: 100.0)
    hold(model, batcher)
    routine = [batcher.submit(item, deadline=101) for item in (1, 2, 3)]
    urgent = batcher.submit(9, deadline=101, urgent=True)
    model.go.set()
    assert urgent.result(20) == 18
    assert [answer.result(20) for answer in routine] == [2, 4, 6]
    assert model.seen == [[0], [9, 1], [2, 3]]
    batcher.close()


def test_a_queue_full_of_routine_requests_takes_urgent_ones_up_to_the_same_bound(
    model: Model, batcher: Batcher[int, int]
) -> None:
    hold(model, batcher)
    answers = [batcher.submit(1, deadline=101) for _ in range(8)]
    answers += [batcher.submit(2, deadline=101, urgent=True) for _ in range(8)]
    with pytest.raises(Problem) as refused:
        batcher.submit(2, deadline=101, urgent=True)
    assert refused.value.category is Category.BUSY
    model.go.set()
    assert [answer.result(20) for answer in answers] == [2] * 8 + [4] * 8


def test_too_large_a_batch_is_split(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    model.largest = 2
    answers = [batcher.submit(item, deadline=101) for item in (1, 2, 3, 4)]
    model.go.set()
    assert [answer.result(20) for answer in answers] == [2, 4, 6, 8]
    assert model.seen[1:] == [[1, 2, 3, 4], [1, 2], [3, 4]]


def test_one_item_too_large_for_memory_fails_alone(model: Model, batcher: Batcher[int, int]) -> None:
    model.largest = 0
    assert isinstance(batcher.submit(1, deadline=101).exception(20), MemoryError)


def test_an_invalid_item_fails_without_the_rest_of_its_batch(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    answers = [batcher.submit(item, deadline=101) for item in (1, 13, 3)]
    model.go.set()
    assert [type(answer.exception(20)) for answer in answers] == [type(None), ValueError, type(None)]


def test_a_server_that_is_busy_is_not_asked_again_for_each_item_of_the_batch(
    model: Model, batcher: Batcher[int, int]
) -> None:
    hold(model, batcher)
    answers = [batcher.submit(item, deadline=101) for item in (1, 17, 3)]
    model.go.set()
    assert [getattr(answer.exception(20), "category", None) for answer in answers] == [Category.BUSY] * 3
    assert model.seen[1:] == [[1, 17, 3]]


def test_a_runner_that_returns_too_few_answers_fails(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    answers = [batcher.submit(item, deadline=101) for item in (1, 7, 3)]
    model.go.set()
    assert [answers[0].result(20), answers[2].result(20)] == [2, 6]
    with pytest.raises(Problem, match="did not answer once per input"):
        answers[1].result(20)


def test_a_request_after_its_deadline_is_not_run(model: Model, batcher: Batcher[int, int]) -> None:
    assert isinstance(batcher.submit(1, deadline=99).exception(20), TimeoutError)
    assert model.seen == []


def test_a_request_whose_caller_gave_up_is_not_run(model: Model, batcher: Batcher[int, int]) -> None:
    hold(model, batcher)
    given_up, other = batcher.submit(1, deadline=101), batcher.submit(2, deadline=101)
    assert given_up.cancel()
    model.go.set()
    assert other.result(20) == 4
    assert model.seen[1:] == [[2]]


def test_closing_answers_all_waiting_callers(model: Model, batcher: Batcher[int, int]) -> None:
    running = hold(model, batcher)
    waiting = [batcher.submit(item, deadline=101) for item in (1, 2)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    for answer in waiting:
        failure = answer.exception(20)
        assert isinstance(failure, Problem)
        assert failure.category is Category.INTERRUPTED
    model.go.set()
    closing.join(20)
    assert running.result(20) == 0
    with pytest.raises(Problem, match="stopping"):
        batcher.submit(1, deadline=101)


def test_the_model_thread_survives_any_exception(turn: threading.Lock) -> None:
    raised = iter([SystemExit(), KeyboardInterrupt(), MemoryError()])

    def model(items: Sequence[int]) -> Sequence[int]:
        for failure in raised:
            raise failure
        return items

    batcher: Batcher[int, int] = Batcher(model, turn, QueueLimits(), out_of_memory=out_of_memory)
    failures = [type(batcher.submit(1, deadline=float("inf")).exception(20)) for _ in range(3)]
    assert failures == [SystemExit, KeyboardInterrupt, MemoryError]
    assert batcher.submit(1, deadline=float("inf")).result(20) == 1
    batcher.close()


class Card:
    """A graphics card with room for a number of items; each batch takes its room until nothing refers to it."""

    class Batch(list[int]):
        """Items on the card."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.entered.set()
        assert self.go.wait(20)
        on_card = self.load(items)
        return [2 * item for item in on_card]

    def load(self, items: Sequence[int]) -> "Card.Batch":
        batch = Card.Batch(items)
        self.room -= len(items)
        weakref.finalize(batch, self.free, len(items))
        if self.room < 0:
            raise MemoryError
        return batch

    def free(self, count: int) -> None:
        self.room += count


def test_a_failed_batch_does_not_keep_the_memory_that_its_halves_need(turn: threading.Lock) -> None:
    card = Card(room=4)
    batcher = Batcher(card, turn, QueueLimits(), out_of_memory=out_of_memory, monotonic=lambda: 100.0)
    first = batcher.submit(0, deadline=101)
    assert card.entered.wait(20)
    answers = [batcher.submit(item, deadline=101) for item in range(1, 9)]
    card.go.set()
    assert [answer.result(20) for answer in (first, *answers)] == [2 * item for item in range(9)]
    batcher.close()
