"""What is built next and by whom: in order, one at a time, idly while that is enough. No process, no file, no clock."""

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.recording.build_queue import TIDY, Answer, Ask, BuildQueue, BuildRule, End, PutAside, Start
from gateway.recording.copier import Rotation
from gateway.recording.segments import SegmentName, segment_name

RULE = BuildRule(late=5.0, late_at_end=3.0, quiet=30.0, retry=0.25, longest_retry=10.0, faults=3)
CRASH = -signal.SIGSEGV


def segment(number):
    epoch = bytes(16)
    return SegmentName(epoch, number, "w0", Path("segments") / segment_name("w0", epoch, number))


def ask_for(number):
    return Ask(segment(number).path.name)


def queue_of(*numbers, tidies=False, now=0.0):
    queue = BuildQueue(tidies=tidies, rule=RULE)
    for number in numbers:
        queue.submit(segment(number), now)
    return queue


def with_builder(queue, *, idle=True):
    queue.on_started(idle=idle)
    queue.on_ready()
    return queue


def test_there_is_no_builder_before_there_is_something_to_build():
    queue = queue_of()
    assert queue.due(0.0) is None
    queue.submit(segment(1), 1.0)
    assert queue.due(1.0) == Start(idle=True)


def test_segments_are_asked_for_in_their_order_one_at_a_time():
    queue = with_builder(queue_of(1, 2))
    assert queue.due(0.0) == ask_for(1)
    assert queue.due(0.0) is None
    queue.submit(segment(1), 0.0)  # again: it waits once
    queue.on_answer(Answer(rows=7, malformed=2), 1.0)
    assert queue.due(1.0) == ask_for(2)
    queue.on_answer(Answer(rows=3, damage=1), 2.0)
    assert queue.due(2.0) is None
    assert (queue.rows, queue.malformed, queue.damage, queue.waiting, queue.failures) == (10, 2, 1, 0, 0)


def test_nothing_is_asked_of_a_builder_that_is_not_ready():
    queue = queue_of(1)
    queue.on_started(idle=True)
    assert queue.due(0.0) is None
    queue.on_ready()
    assert queue.due(0.0) == ask_for(1)


def test_the_lag_is_that_of_the_segment_that_waits_longest():
    queue = queue_of(1, now=10.0)
    queue.submit(segment(2), 13.0)
    assert queue.lag_seconds(14.0) == 4.0
    with_builder(queue).due(14.0)
    queue.on_answer(Answer(), 14.0)
    assert queue.lag_seconds(14.0) == 1.0
    queue.due(14.0)
    queue.on_answer(Answer(), 14.0)
    assert queue.lag_seconds(99.0) == 0.0


def test_an_answer_that_tells_of_a_failure_is_asked_for_again_after_a_pause():
    queue = with_builder(queue_of(1))
    queue.due(0.0)
    queue.on_answer(Answer(failure="No space left on device"), 1.0)
    assert queue.due(1.2) is None
    assert queue.due(1.25) == ask_for(1)
    assert (queue.failures, queue.last_failure, queue.waiting) == (1, "No space left on device", 1)


# Tidying.


def test_after_the_last_segment_it_tidies_once():
    queue = with_builder(queue_of(1, 2, tidies=True))
    queue.due(0.0)
    queue.on_answer(Answer(), 0.0)
    assert queue.due(0.0) == ask_for(2)
    queue.on_answer(Answer(), 0.0)
    assert queue.due(0.0) == Ask(TIDY)
    queue.on_answer(Answer(), 0.0)
    assert queue.due(0.0) is None


def test_tidying_that_failed_waits_for_the_next_segment():
    queue = with_builder(queue_of(1, tidies=True))
    queue.due(0.0)
    queue.on_answer(Answer(), 0.0)
    assert queue.due(0.0) == Ask(TIDY)
    queue.on_answer(Answer(failure="database is locked"), 0.0)
    assert queue.due(100.0) is None
    queue.submit(segment(2), 100.0)
    assert queue.due(100.0) == ask_for(2)
    queue.on_answer(Answer(), 100.0)
    assert queue.due(100.0) == Ask(TIDY)


def test_at_the_end_there_is_no_tidying():
    queue = with_builder(queue_of(1, tidies=True))
    queue.due(0.0)
    queue.hurry()
    queue.on_answer(Answer(), 0.0)
    assert queue.due(0.0) is None


# A share of the CPU, when it is needed.


def test_an_idle_builder_that_is_late_gives_way_to_one_with_a_share():
    queue = with_builder(queue_of(1, 2))
    queue.due(0.0)
    assert queue.due(5.0) is None
    assert queue.due(5.1) == End("the record is 5 s behind")
    assert queue.due(5.2) is None  # not before it is gone
    assert queue.on_exited(-signal.SIGKILL, 5.3) is False
    assert queue.due(5.3) == Start(idle=False)
    with_builder(queue, idle=False)
    assert queue.due(5.4) == ask_for(1)
    assert (queue.failures, queue.idle) == (0, False)


def test_an_idle_builder_that_gets_no_time_to_start_gives_way_too():
    queue = queue_of(1)
    queue.on_started(idle=True)
    assert queue.due(5.1) == End("the record is 5 s behind")


def test_what_it_said_before_it_was_ended_counts():
    queue = with_builder(queue_of(1, 2))
    queue.due(0.0)
    assert isinstance(queue.due(6.0), End)
    queue.on_answer(Answer(rows=4), 6.0)
    assert queue.due(6.0) is None
    queue.on_exited(-signal.SIGKILL, 6.1)
    assert queue.due(6.1) == Start(idle=False)
    with_builder(queue, idle=False)
    assert (queue.due(6.2), queue.rows) == (ask_for(2), 4)


def test_ready_said_by_one_that_is_being_ended_changes_nothing():
    queue = queue_of(1)
    queue.on_started(idle=True)
    assert isinstance(queue.due(6.0), End)
    queue.on_ready()
    assert queue.due(6.0) is None


def caught_up(at):
    """A queue whose builder has a share and has built everything at that time."""
    queue = queue_of(1)
    queue.on_started(idle=True)
    queue.due(6.0)
    queue.on_exited(-signal.SIGKILL, 6.0)
    with_builder(queue, idle=False)
    queue.due(at)
    queue.on_answer(Answer(), at)
    return queue


def test_when_nothing_has_waited_for_a_while_the_next_builder_is_idle_again():
    queue = caught_up(at=10.0)
    assert queue.due(39.9) is None
    assert queue.due(40.0) == End("the record has caught up")
    queue.submit(segment(2), 40.1)
    assert queue.due(40.1) is None
    queue.on_exited(-signal.SIGKILL, 40.2)
    assert queue.due(40.2) == Start(idle=True)


def test_while_segments_keep_coming_the_builder_keeps_its_share():
    queue = caught_up(at=10.0)
    queue.submit(segment(2), 39.0)
    assert queue.due(39.0) == ask_for(2)
    queue.on_answer(Answer(), 39.5)
    assert queue.due(68.9) is None
    assert queue.due(69.0) == End("the record has caught up")


def test_light_steady_traffic_does_not_keep_its_share_for_ever():
    assert BuildRule().late + BuildRule().quiet < Rotation().seconds


def test_a_builder_that_starts_at_the_end_has_a_share_and_keeps_it():
    queue = queue_of(1)
    queue.hurry()
    assert queue.due(0.0) == Start(idle=False)
    with_builder(queue, idle=False)
    queue.due(0.0)
    queue.on_answer(Answer(), 0.0)
    assert queue.due(100.0) is None


def test_one_that_is_idle_at_the_end_goes_on_unless_it_is_late_which_it_is_sooner_then():
    queue = with_builder(queue_of(1))
    assert queue.due(0.0) == ask_for(1)
    assert queue.due(3.1) is None
    queue.hurry()
    assert queue.due(2.9) is None
    assert isinstance(queue.due(3.1), End)


# Builders that end by themselves.


def test_a_builder_that_dies_is_followed_by_another_over_the_same_segment():
    queue = with_builder(queue_of(1))
    queue.due(0.0)
    assert queue.on_exited(CRASH, 1.0) is True
    assert queue.due(1.2) is None
    assert queue.due(1.25) == Start(idle=True)
    assert ask_for(1) == with_builder(queue).due(1.3)
    assert queue.failures == 1
    assert queue.last_failure == f"the builder was ended by signal 11 while it built {segment(1).path.name}"


def test_the_pause_grows_until_one_has_done_something():
    queue = queue_of(1, now=1000.0)
    now, pauses = 1000.0, []
    for _ in range(8):
        queue.on_started(idle=False)
        queue.on_exited(1, now)
        pauses.append(next(pause for pause in (0.25, 0.5, 1, 2, 4, 8, 10) if queue.due(now + pause) is not None))
        now += pauses[-1]
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    with_builder(queue, idle=False)
    queue.due(now)
    queue.on_answer(Answer(), now)
    queue.submit(segment(2), now)
    queue.due(now)
    queue.on_exited(1, now)
    assert queue.due(now + 0.2) is None
    assert isinstance(queue.due(now + 0.25), Start)


def test_a_builder_that_cannot_be_started_is_tried_again():
    queue = queue_of(1)
    assert queue.due(0.0) == Start(idle=True)
    queue.on_failure("no builder can be started", 0.0)
    assert queue.due(0.2) is None
    assert queue.due(0.25) == Start(idle=True)


def start(queue, now):
    """What is due is a builder; there it is."""
    due = queue.due(now)
    assert isinstance(due, Start)
    return with_builder(queue, idle=due.idle)


def die_over_it(queue, code, now):
    start(queue, now)
    assert queue.due(now) == ask_for(1)
    queue.on_exited(code, now)


@pytest.mark.parametrize("code", [CRASH, -signal.SIGABRT, 1])
def test_a_segment_that_three_builders_died_of_is_put_aside_and_the_next_is_built(code):
    queue = queue_of(1, 2)
    for death in range(3):
        die_over_it(queue, code, 100.0 * death)
    assert queue.due(300.0) == PutAside(segment(1))
    queue.on_put_aside(segment(1))
    assert (queue.damage, queue.waiting, queue.failures) == (1, 1, 3)
    start(queue, 300.0)
    assert queue.due(300.0) == ask_for(2)


def test_a_segment_that_cannot_be_put_aside_is_tried_again():
    queue = queue_of(1)
    for death in range(3):
        die_over_it(queue, CRASH, 100.0 * death)
    assert isinstance(queue.due(300.0), PutAside)
    queue.on_failure("Read-only file system", 300.0)
    assert queue.due(300.2) is None
    assert queue.due(300.25) == PutAside(segment(1))


def test_a_segment_that_turns_out_to_be_gone_was_built():
    queue = queue_of(1)
    for death in range(3):
        die_over_it(queue, CRASH, 100.0 * death)
    queue.on_gone(segment(1))
    assert (queue.waiting, queue.damage, queue.due(300.0)) == (0, 0, None)


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGTERM])
def test_builders_that_somebody_kills_say_nothing_about_the_segment(code):
    # What was acknowledged stays in the record whoever kills whom: nothing is put aside for it.
    queue = queue_of(1)
    for death in range(20):
        die_over_it(queue, code, 100.0 * death)
    assert (queue.waiting, queue.failures) == (1, 20)


def test_faults_of_one_segment_are_not_held_against_the_next():
    queue = queue_of(1, 2)
    die_over_it(queue, CRASH, 0.0)
    die_over_it(queue, CRASH, 100.0)
    start(queue, 200.0)
    assert queue.due(200.0) == ask_for(1)
    queue.on_answer(Answer(), 200.0)
    assert queue.due(200.0) == ask_for(2)
    queue.on_exited(CRASH, 200.0)
    assert isinstance(queue.due(300.0), Start)


def test_dying_before_it_is_ready_is_no_fault_of_a_segment():
    queue = queue_of(1)
    for death in range(20):
        assert isinstance(queue.due(100.0 * death), Start)
        queue.on_started(idle=False)
        assert queue.on_exited(1, 100.0 * death) is True
    assert (queue.waiting, queue.failures) == (1, 20)
    assert queue.last_failure == "the builder exited with code 1 without work"


# Whatever happens.


class World:
    """A builder that does what the queue says, at the moments and with the ends that hypothesis chooses."""

    def __init__(self, tidies):
        self.queue = BuildQueue(tidies=tidies, rule=RULE)
        self.now = 0.0
        self.submitted = self.built = 0
        self.builder = None
        self.order = None

    def submit(self):
        self.queue.submit(segment(self.submitted), self.now)
        self.submitted += 1

    def act(self):
        """Everything that is due."""
        while (action := self.queue.due(self.now)) is not None:
            match action:
                case Start():
                    assert self.builder is None, "two builders"
                    self.builder, self.order = "starting", None
                    self.queue.on_started(idle=action.idle)
                case Ask():
                    assert (self.builder, self.order) == ("ready", None), "asked while it had work or could take none"
                    assert action.order in (TIDY, segment(self.built).path.name), "out of order"
                    self.order = action.order
                case End():
                    assert self.builder in ("starting", "ready")
                    self.builder = "dying"
                case PutAside():
                    assert self.builder is None, "put aside under a builder's hands"
                    assert action.name == segment(self.built)
                    self.built += 1
                    self.queue.on_put_aside(action.name)

    def step(self, event):
        kind, seconds, code = event
        self.now += seconds
        if kind == "submit":
            self.submit()
        elif kind == "ready" and self.builder == "starting":
            self.builder = "ready"
            self.queue.on_ready()
        elif kind in ("answer", "failure") and self.order is not None:
            self.built += kind == "answer" and self.order != TIDY
            self.order = None
            self.queue.on_answer(Answer(failure="busy" if kind == "failure" else ""), self.now)
        elif kind == "exit" and self.builder is not None:
            ours = self.builder == "dying"
            self.builder = self.order = None
            assert self.queue.on_exited(-signal.SIGKILL if ours else code, self.now) is not ours
        self.act()

    def settle(self):
        """From here on everything works."""
        for _ in range(10 * (self.submitted + 3)):
            if self.builder == "dying":
                self.step(("exit", 0.0, 0))
            self.step(("ready", 11.0, 0))
            self.step(("answer", 0.0, 0))


EVENTS = st.tuples(
    st.sampled_from(["submit", "ready", "answer", "answer", "failure", "exit", "wait"]),
    st.sampled_from([0.0, 0.1, 1.0, 6.0, 40.0]),
    st.sampled_from([0, 1, CRASH, -signal.SIGKILL]),
)


@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_whatever_happens_every_segment_has_its_turn_in_order_and_with_one_builder_at_a_time(events, tidies):
    # Invariant: as asserted in World; and once nothing fails any more, nothing waits any more.
    world = World(tidies)
    for event in events:
        world.step(event)
        assert world.queue.waiting == world.submitted - world.built
    world.settle()
    assert world.built == world.submitted
    assert world.queue.lag_seconds(world.now) == 0.0
    assert "0 waiting" in repr(world.queue)


def test_an_answer_is_one_line_and_comes_back_as_it_was():
    answer = Answer(1, 2, 3, "several\nlines — and signs")
    assert "\n" not in answer.to_json()
    assert Answer.from_json(answer.to_json()) == answer
