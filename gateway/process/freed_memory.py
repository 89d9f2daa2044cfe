"""Memory that was freed, back to the system."""

from __future__ import annotations

import ctypes

#: Of glibc; other C libraries have none, and ours is then what they do by themselves.
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back_freed_memory() -> None:
    """Return the free pages of every heap, wherever they lie in it.

    Loading a model takes several times what it keeps, in pieces between those that stay, and glibc by itself returns
    what is free at a heap's end only: each version that ever was loaded would leave some of its size in the process.

    Takes 0.02 ms where little is free, and about 0.1 ms a MB that goes back. Call it on the loop's thread: it holds the
    heaps' locks, and a thread of lower priority might be set aside with them.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
