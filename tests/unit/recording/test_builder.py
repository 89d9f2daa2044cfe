"""The recorder's end of its builder: real children that die, hang or never start, and what becomes of the segments."""

import contextlib
import logging
import os
import signal
import time

import pytest

from gateway.recording import builder as builder_module
from gateway.recording.build_queue import BuildRule
from gateway.recording.builder import Builder
from tests.unit.recording.record_places import each_once

QUICK = BuildRule(retry=0.001, longest_retry=0.01)
NEVER_LATE = BuildRule(retry=0.001, late=1e9)
PATIENCE = 60.0


@pytest.fixture
def build(record):
    """Makes builders; none is left after the test."""
    made = []

    def make(command=None, *, rule=NEVER_LATE, tidies=False):
        made.append(Builder(command or record.builder_command(), tidies=tidies, rule=rule))
        return made[-1]

    yield make
    for builder in made:
        builder.finish(0.0)


def turn_until(builder, condition):
    """Let the builder have its turns until ``condition()``; what that was."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, f"it never came true; last failure: {builder.last_failure}"
        builder.turn()
        time.sleep(0.002)
    return found


class Faulty:
    """A builder's command whose fault can be mended, and which remembers how idle it was asked to be."""

    def __init__(self, record, fault):
        self._record = record
        self.fault = fault
        self.started = []

    def __call__(self, idle):
        self.started.append(idle)
        return self._record.builder_command(self.fault, idle=None)(idle)


def closed(record, numbers):
    record.commit(numbers)
    record.copy()
    return record.closed[-1]


def test_segments_become_parts_and_are_counted(record, build):
    builder = build()
    for first in (0, 5):
        builder.submit(closed(record, range(first, first + 5)))
    assert (builder.waiting, builder.pid) == (2, None)
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.rows, builder.damage, builder.malformed, builder.failures) == (10, 0, 0, 0)
    assert record.numbers() == each_once(range(10))
    assert builder.lag_seconds() == 0.0


def test_damage_is_counted(record, build):
    name = closed(record, range(5))
    name.path.write_bytes(b"x" * 300)
    builder = build()
    builder.submit(name)
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.rows, builder.damage) == (0, 1)


def test_the_end_builds_what_waits(record, build):
    builder = build()
    builder.submit(closed(record, range(5)))
    assert builder.finish(PATIENCE)
    assert (builder.waiting, builder.pid, builder.rows) == (0, None, 5)


def test_the_end_leaves_what_takes_too_long_in_segments(record, build):
    builder = build(record.builder_command("deaf"))
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.pid)
    pid = builder.pid
    assert not builder.finish(0.1)
    assert builder.waiting == 1
    assert not os.path.exists(f"/proc/{pid}")
    assert record.numbers() == each_once(range(5))


def test_without_segments_there_is_no_child_and_the_end_has_nothing_to_do(build):
    builder = build()
    builder.turn()
    assert builder.pid is None
    assert builder.finish(PATIENCE)


def test_what_a_library_prints_is_no_answer(record, build, capfd):
    builder = build(record.builder_command("talkative"))
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.waiting == 0)
    builder.finish(0.0)
    assert builder.rows == 5
    assert "so has its native code" in capfd.readouterr().err


# The child dies.


def test_a_child_killed_again_and_again_costs_time_and_nothing_else(record, build):
    command = Faulty(record, "deaf")
    builder = build(command, rule=QUICK)
    builder.submit(closed(record, range(5)))
    for death in range(1, 6):
        os.kill(turn_until(builder, lambda: builder.pid), signal.SIGKILL)
        turn_until(builder, lambda death=death: builder.failures == death)
    assert "was ended by signal 9" in builder.last_failure
    command.fault = ""
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.rows, builder.damage) == (5, 0)
    assert record.numbers() == each_once(range(5))


@pytest.mark.parametrize(("fault", "ending"), [("crash", "was ended by signal 11"), ("raise", "exited with code 1")])
def test_a_segment_that_children_die_of_is_put_aside_and_the_others_are_built(record, build, fault, ending, caplog):
    first = closed(record, range(5))
    second = closed(record, range(5, 8))
    builder = build(record.builder_command(f"{fault}:{first.path.name}"), rule=QUICK)
    builder.submit(first)
    builder.submit(second)
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.failures, builder.damage, builder.rows) == (3, 1, 3)
    assert builder.last_failure == f"the builder {ending} while it built {first.path.name}"
    assert (record.segments / "quarantine" / first.path.name).exists()
    assert record.numbers() == each_once(range(5, 8))
    assert [message for message in caplog.messages if message.startswith("builders die of")] != []


def test_a_child_that_dies_when_all_is_done_has_done_it(record, build):
    first = closed(record, range(5))
    second = closed(record, range(5, 8))
    builder = build(record.builder_command(f"crash-after:{first.path.name}"), rule=QUICK)
    builder.submit(first)
    builder.submit(second)
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.failures, builder.damage) == (1, 0)
    assert record.numbers() == each_once(range(8))


def test_children_that_never_become_ready_cost_no_segment(record, build):
    command = Faulty(record, "unready")
    builder = build(command, rule=QUICK)
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.failures > QUICK.faults)
    assert builder.last_failure == "the builder exited with code 3 without work"
    assert (builder.waiting, builder.damage) == (1, 0)
    command.fault = ""
    turn_until(builder, lambda: builder.waiting == 0)
    assert record.numbers() == each_once(range(5))


def test_a_child_that_cannot_be_started_is_tried_again(record, build):
    commands = [["/no/such/program"]] * 3
    builder = build(lambda idle: commands.pop() if commands else record.builder_command()(idle), rule=QUICK)
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.failures == 3)
    assert "no builder can be started" in builder.last_failure
    turn_until(builder, lambda: builder.waiting == 0)


def test_a_segment_that_cannot_be_put_aside_is_tried_again(record, build):
    name = closed(record, range(5))
    blocker = record.segments / "quarantine"
    blocker.write_text("in the way")
    builder = build(record.builder_command(f"crash:{name.path.name}"), rule=QUICK)
    builder.submit(name)
    turn_until(builder, lambda: builder.failures > QUICK.faults)
    assert "quarantine" in builder.last_failure
    blocker.unlink()
    turn_until(builder, lambda: builder.waiting == 0)
    assert (blocker / name.path.name).exists()


def test_a_segment_that_is_gone_when_it_should_be_put_aside_was_built(record, build, monkeypatch):
    def gone(path):
        record.build()
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(builder_module, "quarantine", gone)
    name = closed(record, range(5))
    builder = build(record.builder_command(f"crash:{name.path.name}"), rule=QUICK)
    builder.submit(name)
    turn_until(builder, lambda: builder.waiting == 0)
    assert (builder.failures, builder.damage) == (3, 0)
    assert record.numbers() == each_once(range(5))


# The child is late.


class DeafWhileIdle(Faulty):
    """An idle child gets no time at all; one with a share does its work."""

    def __call__(self, idle):
        self.fault = "deaf" if idle else ""
        return super().__call__(idle)


def test_an_idle_child_that_is_late_is_replaced_and_its_successor_goes_on_in_order(record, build, caplog):
    caplog.set_level(logging.INFO)
    command = DeafWhileIdle(record, "")
    builder = build(command, rule=BuildRule(late=0.2))
    for first in (0, 5, 10):
        builder.submit(closed(record, range(first, first + 5)))
    turn_until(builder, lambda: builder.waiting == 0)
    assert (command.started, builder.idle, builder.rows, builder.failures) == ([True, False], False, 15, 0)
    assert record.numbers() == each_once(range(15))
    assert [message for message in caplog.messages if "behind: the builder is replaced" in message] != []


def test_when_nothing_has_waited_for_a_while_the_next_child_is_idle_again(record, build):
    command = DeafWhileIdle(record, "")
    builder = build(command, rule=BuildRule(late=0.2, quiet=0.05))
    for first in (0, 5):
        builder.submit(closed(record, range(first, first + 5)))
        turn_until(builder, lambda: builder.waiting == 0)
        turn_until(builder, lambda: builder.pid is None)
    assert (command.started, builder.failures) == ([True, False, True, False], 0)
    assert record.numbers() == each_once(range(10))


# What it holds.


def test_the_child_holds_no_descriptor_of_ours(record, build):
    held, other = os.pipe()
    os.set_inheritable(held, True)
    builder = build(record.builder_command("deaf"))
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.pid)
    ours = os.readlink(f"/proc/self/fd/{held}")
    theirs = []
    for descriptor in os.listdir(f"/proc/{builder.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a file that it imports just now
            theirs.append(os.readlink(f"/proc/{builder.pid}/fd/{descriptor}"))
    assert theirs != []
    assert ours not in theirs
    os.close(held)
    os.close(other)


def test_the_child_has_a_group_of_its_own_in_our_session(record, build):
    # In a session of its own Linux's autogroup would give it as much of the CPU as all of ours together.
    builder = build(record.builder_command("deaf"))
    builder.submit(closed(record, range(5)))
    turn_until(builder, lambda: builder.pid)
    assert (os.getpgid(builder.pid), os.getsid(builder.pid)) == (builder.pid, os.getsid(0))
