"""What a process freed is the system's again, also where something lives behind it."""

import subprocess
import sys

from gateway.process import freed_memory

FREES_AND_KEEPS_THE_LAST = """
import psutil
from gateway.process.freed_memory import give_back_freed_memory
resident = psutil.Process().memory_info
pieces = [b"x" * 100_000 for _ in range(500)]
kept = b"x" * 100_000  # at the heap's end: nothing before it goes back by itself
del pieces
before = resident().rss
give_back_freed_memory()
print(before - resident().rss)
"""


def test_memory_that_is_free_between_what_lives_goes_back():
    done = subprocess.run(
        [sys.executable, "-c", FREES_AND_KEEPS_THE_LAST], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) > 40_000_000


def test_a_c_library_without_the_call_is_no_error(monkeypatch):
    monkeypatch.setattr(freed_memory, "_malloc_trim", None)
    freed_memory.give_back_freed_memory()
