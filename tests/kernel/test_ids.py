"""Identifiers: versions of UUID, their order, and processes that begin as copies of one another."""

import multiprocessing
import uuid
from multiprocessing.connection import Connection

from kernel.clock import RandomIds


def some() -> list[str]:
    ids = RandomIds()
    return [ids.new() for _ in range(600)]


def in_a_copy(answer: Connection) -> None:
    answer.send(some())


def test_an_id_is_a_uuid_of_version_7_and_never_repeated() -> None:
    made = some()
    assert len(set(made)) == len(made)
    assert {uuid.UUID(it).version for it in made} == {7}
    assert {uuid.UUID(it).variant for it in made} == {uuid.RFC_4122}


def test_ids_made_later_sort_later() -> None:
    made = [it[:13] for it in some()]
    assert made == sorted(made)


def test_a_process_that_is_a_copy_makes_other_ids() -> None:
    some()  # random bits are at hand when the copy is made
    mine, its = multiprocessing.Pipe()
    copy = multiprocessing.get_context("fork").Process(target=in_a_copy, args=(its,))
    copy.start()
    theirs = mine.recv()
    copy.join()
    assert {it[14:] for it in theirs}.isdisjoint({it[14:] for it in some()})
