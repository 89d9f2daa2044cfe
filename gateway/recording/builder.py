"""The recorder's builder of parts: a child process, and the queue that says what it is asked.

What builds needs seconds of CPU at a time. In a process of its own it can be preempted by everybody without holding up
who copies the rings, which it would in ours: by the GIL. Nothing here waits, but for :meth:`Builder.finish`; how a
segment becomes Parquet, and what makes a process idle, only the child knows.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from gateway.recording.build_queue import READY, Action, Answer, Ask, BuildQueue, BuildRule, End, PutAside, Start
from gateway.recording.segments import SegmentName, quarantine

log = logging.getLogger(__name__)

#: Command line of a builder, given whether it is to be idle. It dies with the process that starts it, says READY, then
#: answers each line that it reads with one, see :class:`Answer`.
BuilderCommand = Callable[[bool], Sequence[str]]

#: How often an end that closes no pipe any more is looked for while somebody waits.
_LOOK_SECONDS = 0.005
#: How long the end waits for a child that was killed.
_DEATH_SECONDS = 2.0


class Builder:
    """Has closed segments turned into parts, in the order in which they were closed."""

    def __init__(self, command: BuilderCommand, *, tidies: bool, rule: BuildRule | None = None) -> None:
        """``tidies``: whether it also merges parts, which only one builder of a state directory may."""
        self._command = command
        self._queue = BuildQueue(tidies=tidies, rule=rule)
        self._child: _Child | None = None

    def submit(self, name: SegmentName) -> None:
        """A segment that will not grow any more; those of one stream come in its order."""
        self._queue.submit(name, time.monotonic())

    def turn(self) -> None:
        """Hear what the child says, and do what is due. To be called all the time; never waits."""
        self._hear()
        while (action := self._queue.due(time.monotonic())) is not None:
            self._do(action)

    def finish(self, give_up_after: float) -> bool:
        """Build what waits, then end. False if ``give_up_after`` seconds passed first: the segments keep the rest."""
        until = time.monotonic() + give_up_after
        self._queue.hurry()
        self.turn()
        while self._queue.waiting and (left := until - time.monotonic()) > 0:
            self._wait(min(left, 0.05))
            self.turn()
        if self._child is not None:
            self._child.kill()
            self._child.close()
            self._child = None
        return not self._queue.waiting

    # What others ask.

    @property
    def waiting(self) -> int:
        """Segments that are not Parquet yet."""
        return self._queue.waiting

    def lag_seconds(self) -> float:
        """Since when the oldest of these has been closed."""
        return self._queue.lag_seconds(time.monotonic())

    @property
    def rows(self) -> int:
        return self._queue.rows

    @property
    def damage(self) -> int:
        return self._queue.damage

    @property
    def malformed(self) -> int:
        return self._queue.malformed

    @property
    def failures(self) -> int:
        return self._queue.failures

    @property
    def last_failure(self) -> str:
        return self._queue.last_failure

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return self._child.pid if self._child is not None else None

    @property
    def idle(self) -> bool:
        """Whether the child works only while nobody else wants the CPU."""
        return self._queue.idle

    # From the child.

    def _hear(self) -> None:
        child = self._child
        if child is None:
            return
        code = child.poll()  # before its last words are read, so that none comes after them
        for line in child.lines():
            if line == READY:
                self._queue.on_ready()
            else:
                self._queue.on_answer(Answer.from_json(line), time.monotonic())
        if code is not None:
            self._bury(child, code)

    def _bury(self, child: _Child, code: int) -> None:
        child.close()
        self._child = None
        if self._queue.on_exited(code, time.monotonic()):
            log.error("pid %d: %s; another takes over", child.pid, self._queue.last_failure)

    # To the child.

    def _do(self, action: Action) -> None:
        match action:
            case Start():
                self._start(action)
            case Ask():
                self._running().ask(action.order)
            case End():
                log.info("%s: the builder is replaced", action.why)
                self._running().kill()
            case PutAside():
                self._put_aside(action.name)

    def _running(self) -> _Child:
        assert self._child is not None
        return self._child

    def _start(self, action: Start) -> None:
        try:
            self._child = _Child(self._command(action.idle))
        except OSError as problem:
            log.error("no builder can be started: %s", problem)
            self._queue.on_failure(f"no builder can be started: {problem}", time.monotonic())
        else:
            self._queue.on_started(idle=action.idle)

    def _put_aside(self, name: SegmentName) -> None:
        try:
            where = quarantine(name.path)
        except FileNotFoundError:
            self._queue.on_gone(name)  # the last builder died after its work was done
        except OSError as problem:
            log.error("%s cannot be put aside: %s", name.path, problem)
            self._queue.on_failure(str(problem), time.monotonic())
        else:
            log.error("builders die of %s; moved to %s", name.path, where)
            self._queue.on_put_aside(name)

    def _wait(self, seconds: float) -> None:
        """Until the child says something, or so long."""
        if self._child is None or not self._child.wait_for_words(seconds):
            time.sleep(min(seconds, _LOOK_SECONDS))


class _Child:
    """One builder process and the pipes to it. Raises OSError where it cannot be started."""

    def __init__(self, command: Sequence[str]) -> None:
        # Only descriptors 0 to 2 go along: with the supervisor's pipe or a lock in its hands, others would think the
        # wrong processes alive. A group of its own, as every process of the tree has.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._words = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._words, False)
        self._heard = b""
        self._silent = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: str) -> None:
        # One order at a time never fills a pipe; of a child that is dead its exit will tell.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, order.encode() + b"\n")

    def lines(self) -> Iterator[str]:
        """What it has said since the last call, as far as the lines are whole."""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._words, 4096):
                self._heard += more
            self._silent = True
        *whole, self._heard = self._heard.split(b"\n")
        yield from (line.decode() for line in whole)

    def wait_for_words(self, seconds: float) -> bool:
        """Wait so long for it to say something; False at once if it never will again."""
        if not self._silent:
            select.select([self._words], [], [], seconds)
        return not self._silent

    def poll(self) -> int | None:
        """Exit code, minus the signal's number if one ended it; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Forget it; it is dead or about to be, which takes a while where it gets no CPU."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DEATH_SECONDS)
