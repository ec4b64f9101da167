"""Reading ahead: a thread takes what an iterator gives while its reader is busy with what it has.

for batch in ahead(batches, 4): ...

Reading SQLite and writing Parquet each leave the interpreter alone for most of their time, so two cores do both at once.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Final, TypeVar

Item = TypeVar("Item")
_LOOK_SECONDS: Final = 0.1


def ahead(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The items, up to `most` of them taken before they are asked for. What taking them raises is raised here.

    Whoever leaves off early has the thread stop at the next item; it is over when this is closed.
    """
    taken: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(most)
    left = threading.Event()

    def put(item: Item | None, error: BaseException | None, *, more: bool) -> None:
        while not left.is_set():
            try:
                taken.put((item, error, more), timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return

    def take() -> None:
        try:
            for item in items:
                put(item, None, more=True)
                if left.is_set():
                    return
            put(None, None, more=False)
        except BaseException as error:
            put(None, error, more=False)

    thread = threading.Thread(target=take, daemon=True, name="retrospan-archive")
    thread.start()
    try:
        while True:
            item, error, more = taken.get()
            if error is not None:
                raise error
            if not more:
                return
            yield item  # type: ignore[misc]  # what has more to come is an item
    finally:
        left.set()
        thread.join()
