"""What primaries answered is run again by candidates, under the same prediction id; nothing of theirs is touched."""

import numpy as np
import pytest

from gateway._fast.record_ring import RingReader
from gateway._fast.shadow_feed import Candidate, ShadowFeed
from gateway.serving.snapshot import NOTHING, prepare
from tests.e2e import models
from tests.fast.small_worker import SmallWorker, request, snapshot

F32 = np.float32
SHADOW = 1
SHADOW_RULE = 7


@pytest.fixture
def roots(tmp_path):
    primary, candidate = tmp_path / "primary", tmp_path / "candidate"
    models.write_scaling(primary, "m", factor=2.0)
    models.write_scaling(candidate, "m", version="3", factor=3.0)
    return primary, candidate


class Shadowed:
    """A worker, a scorer beside it, and the feed between them."""

    def __init__(self, tmp_path, roots, *, start="oldest", **part):
        self.folder, self.roots = tmp_path, roots
        (tmp_path / "scorer").mkdir()
        self.worker = SmallWorker(tmp_path, roots[0], m=part)
        self.scorer = SmallWorker(tmp_path / "scorer", roots[1])
        self.feed = self.new_feed(start, 1)

    def new_feed(self, start="oldest", cursor=1):
        return ShadowFeed(self.scorer.pipeline, RingReader(self.folder / "w0.ring", cursor, start=start))

    def candidate(self, percent=100.0):
        return Candidate(self.scorer.version("m"), percent)

    def score(self, feed=None):
        """Let the feed take what there is, and the scorer run it; frames of the runs."""
        feed = feed or self.feed
        while feed.take(1 << 16):
            self.scorer.run()
        self.scorer.run()
        return self.scorer.frames()


@pytest.fixture
def shadowed(tmp_path, roots):
    return lambda **part: Shadowed(tmp_path, roots, **part)


def ask(value=1.0, **more):
    return request("m", x=np.full((1, 4), value, F32), **more)


def test_a_candidate_runs_what_its_primary_answered(shadowed):
    both = shadowed()
    both.feed.adopt({"m": [both.candidate()]})
    both.worker.answers([ask(value, request_id=f"r{value}") for value in range(10)])
    primaries = both.worker.frames()
    runs = both.score()
    assert [run.fields["prediction_id"] for run in runs] == [frame.fields["prediction_id"] for frame in primaries]
    assert [run.request_id for run in runs] == [frame.request_id for frame in primaries]
    assert {(run.fields["role"], run.fields["rule"], run.fields["status"]) for run in runs} == {
        (SHADOW, SHADOW_RULE, 0)
    }
    assert [np.frombuffer(run.outputs[0].data, F32)[0] for run in runs] == [3.0 * value for value in range(10)]
    assert all(run.inputs == frame.inputs for run, frame in zip(runs, primaries, strict=True))
    assert {run.fields["batch_rows"] for run in runs} == {10}, "together, as anything else"
    assert both.score() == [], "once"


def test_only_answers_are_shadowed(shadowed):
    both = shadowed()
    both.feed.adopt({"m": [both.candidate()]})
    both.worker.answers([request("m", x=np.ones((1, 3), F32)), ask(version="9"), ask(5)])
    assert [np.frombuffer(run.outputs[0].data, F32)[0] for run in both.score()] == [15.0]


def test_models_without_a_candidate_are_passed_over(shadowed):
    both = shadowed()
    both.worker.answers([ask()])
    assert both.score() == []
    both.feed.adopt({"other": [both.candidate()]})
    both.worker.answers([ask()])
    assert both.score() == []


def test_every_reader_picks_the_same_share_by_the_prediction_id(shadowed):
    both = shadowed()
    for value in range(200):
        both.worker.answers([ask(value)])
    picked = []
    for cursor, percent in ((2, 30.0), (3, 30.0), (4, 60.0)):
        feed = both.new_feed(cursor=cursor)
        candidate = both.candidate(percent)
        feed.adopt({"m": [candidate]})
        runs = both.score(feed)
        assert candidate.taken == len(runs)
        picked.append({run.fields["prediction_id"] for run in runs})
    assert picked[0] == picked[1]
    assert picked[0] < picked[2]
    assert 30 <= len(picked[0]) <= 90
    assert 80 <= len(picked[2]) <= 160


@pytest.mark.parametrize("percent", [0, -1, 100.1, float("nan")])
def test_a_share_is_above_nothing_and_at_most_everything(percent, shadowed):
    with pytest.raises(ValueError, match="more than 0 and at most 100 percent"):
        shadowed().candidate(percent)


@pytest.mark.parametrize("recording", [{"inputs": "digest"}, {"inputs": "off"}, {"inputs_max": 8}])
def test_what_the_record_does_not_hold_cannot_be_run_again(recording, shadowed):
    both = shadowed(recording=recording)
    both.feed.adopt({"m": [both.candidate()]})
    both.worker.answers([ask()] * 3)
    assert both.score() == []
    assert both.feed.without_inputs == 3


def test_a_candidate_that_takes_other_inputs_fails_in_its_own_record(tmp_path, roots):
    models.write_scaling(roots[1], "m", version="4", shape=["n", 5])
    both = Shadowed(tmp_path, roots)
    both.feed.adopt({"m": [both.candidate(), Candidate(both.scorer.version("m", "3"), 100)]})
    both.worker.answers([ask(7)])
    runs = both.score()
    assert sorted(run.fields["status"] for run in runs) == [0, 3]
    assert "unexpected shape for input 'x'" in next(run.error for run in runs if run.fields["status"])


def test_a_reader_that_comes_late_says_what_it_missed(shadowed):
    both = shadowed(start="newest")
    both.feed.adopt({"m": [both.candidate()]})
    both.worker.answers([ask(8)])
    both.score()
    late = both.new_feed("newest", 2)
    late.adopt({"m": [both.candidate()]})
    both.worker.answers([ask(9)])
    runs = both.score(late)
    assert len(runs) + late.without_schema == 1


def test_a_candidate_too_far_behind_is_passed_over_and_counted(shadowed):
    both = shadowed()
    candidate = both.candidate()
    both.feed.adopt({"m": [candidate]})
    both.scorer.pipeline.queue_limit = 1 << 20
    while not candidate.skipped:
        both.worker.answers([ask()] * 500)
        both.worker.frames()
        while both.feed.take(1 << 16):
            pass
    assert candidate.taken == both.scorer.version("m").waiting_requests, "all that it was given, and no more"
    both.scorer.run()


def test_overwritten_frames_are_counted(tmp_path, roots):
    both = Shadowed(tmp_path, roots)
    both.feed.adopt({"m": [both.candidate()]})
    sent = len(both.worker.answers([ask()]))
    runs = both.score()
    while both.worker.ring.head_position < 3 << 20:
        sent += len(both.worker.answers([ask()] * 100))
        both.worker.port.sent.clear()
        both.worker.recorder.advance(both.worker.ring.head_position)
    runs += both.score()  # finds itself overtaken, and what the recorder has not had yet
    sent += len(both.worker.answers([ask()]))
    runs += both.score()
    assert both.feed.overwritten > 0
    assert len(runs) + both.feed.overwritten + both.feed.without_schema == sent


def test_versions_that_only_shadow_are_what_a_scorer_loads(roots):
    document = snapshot(roots[1], m={"shadows": [{"version": "3", "percent": 50.0}]})
    document["models"]["m"]["versions"]["3"]["serving"] = False
    assert prepare(document, NOTHING).loaded == {}
    assert list(prepare(document, NOTHING, shadows=True).loaded) == [("m", "3")]
