"""Reading ahead gives the same items, the same errors, and ends when its reader does."""

import itertools
import threading

import pytest

from retrospan.archive.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "retrospan-archive"]


@pytest.mark.parametrize("most", [1, 3, 100])
def test_all_items_come_in_their_order(most):
    assert list(ahead(iter(range(50)), most)) == list(range(50))
    assert list(ahead(iter([None, 0, None]), most)) == [None, 0, None]
    assert threads() == []


def test_what_taking_an_item_raises_is_raised_after_those_before_it():
    def items():
        yield 1
        raise ValueError("no more")

    found = ahead(items(), 4)
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)
    assert threads() == []


def test_a_reader_that_leaves_off_leaves_no_thread_behind():
    taken = []
    found = ahead((taken.append(number) or number for number in itertools.count()), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    found.close()
    assert threads() == []
    assert len(taken) <= 3 + 2 + 2
