"""Python's search for cyclic garbage waits while a batch is worked on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_search() -> Iterator[None]:
    """For a block, or as a decorator for a function.

    Thousands of objects are made that all live to the batch's end: to look for garbage among them takes a tenth of the
    time, and a third where a file is made of millions. What the batch leaves behind is found after it.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
