"""Which segment is built next, and by what kind of builder. Pure: segments, answers, ends and the time in, actions out.

There is one builder at a time, and one segment with it. It normally works only while nobody else wants the CPU; if the
record falls behind because there is no such time, it is ended and one takes over that has a share like the recorder's.
Ending one at any moment loses nothing and doubles nothing (see ``consume_segment``), so that is how each is replaced.

Nothing here knows of processes, pipes or files. Times are seconds of any monotonic clock.
"""

from __future__ import annotations

import enum
import json
import signal
from dataclasses import asdict, dataclass
from typing import NamedTuple

from gateway.recording.segments import SegmentName

#: What a builder is asked for when it has nothing to build: merge small parts, remove replaced ones.
TIDY = "tidy"
#: What a builder says once before it is asked for anything.
READY = "ready"
#: Ends that somebody sent from outside say nothing about the segment that was being built.
_SENT_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGQUIT}


@dataclass(frozen=True, slots=True)
class BuildRule:
    """When a builder is replaced, and how often a failure is tried again. Seconds."""

    late: float = 30.0
    """An idle builder that is behind by more than this gives way to one that gets its share of the CPU, which it takes
    from the workers. Shorter bursts are built when they are over; until then segments are as good as parts."""
    late_at_end: float = 3.0
    """The same once the workers have gone: what keeps the idle one from the CPU then, it need not spare."""
    quiet: float = 20.0
    """The one with a share leaves when nothing has waited for so long. With ``late`` that is less than the age at which
    segments are closed: else light steady traffic would keep it for ever."""
    retry: float = 0.25
    """After a failure: full disk, busy database. Doubled for each further builder that ended by itself."""
    longest_retry: float = 10.0
    faults: int = 3
    """So many builders may die of a segment before it is put aside."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of what a builder was asked for; one line of JSON on its way."""

    rows: int = 0
    damage: int = 0
    malformed: int = 0
    failure: str = ""
    """Why it could not be done; empty if it was. Ask again."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Answer:
        return Answer(**json.loads(text))


class Start(NamedTuple):
    """Start a builder, then say :meth:`BuildQueue.on_started` or :meth:`BuildQueue.on_failure`."""

    idle: bool


class Ask(NamedTuple):
    """Send the builder this order: the name of a segment's file, or TIDY."""

    order: str


class End(NamedTuple):
    """Kill the builder; its exit is heard of by :meth:`BuildQueue.on_exited`."""

    why: str


class PutAside(NamedTuple):
    """Move this segment out of the way, then say :meth:`BuildQueue.on_put_aside`, ``on_gone`` or ``on_failure``."""

    name: SegmentName


Action = Start | Ask | End | PutAside


class _Phase(enum.Enum):
    """Of the builder. ABSENT → STARTING → FREE ⇄ ASKED; from each of the last three by itself, or by way of ENDING, to
    ABSENT. The next one is started only after that: two on one segment would be in each other's way."""

    ABSENT = enum.auto()
    STARTING = enum.auto()
    FREE = enum.auto()
    ASKED = enum.auto()
    ENDING = enum.auto()


class BuildQueue:
    """The segments that wait, and the one builder there is, was, or should be."""

    def __init__(self, *, tidies: bool, rule: BuildRule | None = None) -> None:
        self._rule = rule or BuildRule()
        self._tidies = tidies
        self._waiting: dict[SegmentName, float] = {}
        self._phase = _Phase.ABSENT
        self._idle = True
        self._building: SegmentName | None = None
        self._untidy = False
        self._urgent = False
        self._ending = False
        self._busy_at = 0.0
        self._not_before = 0.0
        self._ends_in_a_row = 0
        self._faults = 0
        self.rows = self.damage = self.malformed = self.failures = 0
        self.last_failure = ""

    def __repr__(self) -> str:
        kind = "idle " if self._idle else ""
        return f"<BuildQueue {kind}builder {self._phase.name}, {self.waiting} waiting, {self._faults} faults>"

    # What there is to do.

    def submit(self, name: SegmentName, now: float) -> None:
        """A segment that will not grow any more; those of one stream come in its order."""
        self._waiting.setdefault(name, now)

    def hurry(self) -> None:
        """This is the end: nobody is left whom a builder that starts now could disturb, and there is no tidying."""
        self._ending = True
        self._tidies = self._untidy = False

    @property
    def waiting(self) -> int:
        """Segments that are not Parquet yet."""
        return len(self._waiting)

    def lag_seconds(self, now: float) -> float:
        """Since when the oldest of these has been closed."""
        return now - min(self._waiting.values(), default=now)

    @property
    def idle(self) -> bool:
        """Whether the builder works only while nobody else wants the CPU."""
        return self._idle

    # What is due.

    def due(self, now: float) -> Action | None:
        """What to do now, one thing at a time: ask until it is None, and again after whatever happens."""
        self._judge_urgency(now)
        match self._phase:
            case _Phase.ENDING:
                return None
            case _Phase.ABSENT:
                return self._due_without_builder(now)
        if self._idle and self._urgent:
            return self._end(f"the record is {self.lag_seconds(now):.0f} s behind")
        if not self._idle and not self._urgent and not self._ending and self._phase is _Phase.FREE:
            return self._end("the record has caught up")
        if self._phase is _Phase.FREE and now >= self._not_before:
            return self._ask()
        return None

    def _judge_urgency(self, now: float) -> None:
        if self._waiting:
            self._busy_at = now
        if self.lag_seconds(now) > (self._rule.late_at_end if self._ending else self._rule.late):
            self._urgent = True
        elif now - self._busy_at >= self._rule.quiet:
            self._urgent = False

    def _due_without_builder(self, now: float) -> Action | None:
        if not self._waiting or now < self._not_before:
            return None
        if self._faults >= self._rule.faults:
            return PutAside(next(iter(self._waiting)))
        return Start(idle=not (self._urgent or self._ending))

    def _end(self, why: str) -> Action:
        self._phase = _Phase.ENDING
        return End(why)

    def _ask(self) -> Action | None:
        if self._waiting:
            self._building = next(iter(self._waiting))
            self._phase = _Phase.ASKED
            return Ask(self._building.path.name)
        if self._untidy:
            self._untidy = False
            self._phase = _Phase.ASKED
            return Ask(TIDY)
        return None

    # What happened.

    def on_started(self, *, idle: bool) -> None:
        """There is a builder; it will say when it is ready."""
        self._phase = _Phase.STARTING
        self._idle = idle

    def on_ready(self) -> None:
        """The builder takes orders."""
        if self._phase is _Phase.STARTING:
            self._phase = _Phase.FREE

    def on_answer(self, answer: Answer, now: float) -> None:
        """The builder did what it was asked for, or could not; it takes the next order."""
        built, self._building = self._building, None
        if self._phase is _Phase.ASKED:
            self._phase = _Phase.FREE
        if answer.failure:
            self._fail(answer.failure, now + self._rule.retry)
            return
        self._ends_in_a_row = 0
        if built is not None:
            self.rows += answer.rows
            self.damage += answer.damage
            self.malformed += answer.malformed
            self._done(built)
            self._untidy = self._tidies

    def on_exited(self, code: int, now: float) -> bool:
        """The builder is gone: exit ``code``, or minus the signal's number. True if that was none of our doing."""
        expected = self._phase is _Phase.ENDING
        building, self._building = self._building, None
        self._phase = _Phase.ABSENT
        if expected:
            return False
        if building is not None and code not in _SENT_FROM_OUTSIDE:
            self._faults += 1
        self._ends_in_a_row += 1
        # Bounded, so that a builder that fails for days does not make the number overflow.
        delay = self._rule.retry * 2.0 ** min(self._ends_in_a_row - 1, 30)
        work = f"while it built {building.path.name}" if building else "without work"
        ending = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
        self._fail(f"the builder {ending} {work}", now + min(delay, self._rule.longest_retry))
        return True

    def on_put_aside(self, name: SegmentName) -> None:
        """The segment is out of the way."""
        self.damage += 1
        self._done(name)

    def on_gone(self, name: SegmentName) -> None:
        """The segment is not there: it was built, and its builder died before it could say so."""
        self._done(name)

    def on_failure(self, problem: str, now: float) -> None:
        """What was due could not be done: it is tried again."""
        self._fail(problem, now + self._rule.retry)

    def _done(self, name: SegmentName) -> None:
        del self._waiting[name]
        self._faults = 0

    def _fail(self, problem: str, not_before: float) -> None:
        self.failures += 1
        self.last_failure = problem
        self._not_before = not_before
