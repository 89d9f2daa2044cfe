"""Two phases: prepare loads and changes nothing that serves; compile makes of it what the pipeline adopts."""

import gc
import weakref

import pytest

from gateway._fast.served import ServedVersion
from gateway.core.errors import ConfigurationError, GatewayError, Problem
from gateway.serving.snapshot import NOT_COUNTED, NOTHING, compile_models, prepare, unavailable
from tests.e2e import models
from tests.fast.small_worker import snapshot, split


@pytest.fixture
def root(tmp_path):
    """Model ``m`` in versions 1 and 2."""
    for version in ("1", "2"):
        models.write_scaling(tmp_path, "m", version=version)
    return tmp_path


def registered(served):
    return f"schema of {served.model}@{served.version}"


def compiled(prepared, **how):
    return compile_models(prepared, **{"register": registered, "recording": True} | how)


def test_a_version_that_stays_is_not_loaded_again(root):
    first = prepare(snapshot(root), NOTHING)
    second = prepare(snapshot(root, 2, m={"recording": {"mode": "off"}, "labels": {"new": "2"}}), first)
    assert second.number == 2
    for key, served in first.loaded.items():
        assert second.loaded[key] is served


@pytest.mark.parametrize("changed", [{"lane": "thread"}, {"batching": {"max_rows": 2}}])
def test_a_version_whose_settings_change_is_loaded_anew(changed, root):
    first = prepare(snapshot(root), NOTHING)
    second = prepare(snapshot(root, 2, m=changed), first)
    assert second.loaded["m", "1"] is not first.loaded["m", "1"]


def test_other_files_are_another_version_and_the_same_elsewhere_are_not(root):
    first = prepare(snapshot(root), NOTHING)
    document = snapshot(root, 2)
    document["models"]["m"]["versions"]["1"]["digest"] = "of other files"
    document["models"]["m"]["versions"]["2"]["path"] = "/moved/m/2"
    second = prepare(document, first)
    assert second.loaded["m", "1"] is not first.loaded["m", "1"]
    assert second.loaded["m", "2"] is first.loaded["m", "2"]


def test_a_broken_version_is_reported_and_stops_no_other(root):
    (root / "m" / "2" / "model.onnx").write_bytes(b"no graph")
    prepared = prepare(snapshot(root), NOTHING)
    assert prepared.report["m"]["1"]["ok"]
    assert not prepared.report["m"]["2"]["ok"]
    assert "cannot load it" in prepared.report["m"]["2"]["reason"]
    served = compiled(prepared)["m"]
    assert served.default.version == "1"
    assert list(served.versions) == [b"1"]
    assert "cannot load it" in unavailable(prepared)["m"]["2"]


def test_a_version_that_is_held_back_is_not_run_even_if_it_runs_already(root):
    first = prepare(snapshot(root), NOTHING)
    for running in (NOTHING, first):
        prepared = prepare(snapshot(root, 2), running, held_back={("m", "2"): "2026-11-23T06:00:00Z"})
        assert list(compiled(prepared)["m"].versions) == [b"1"]
        assert not prepared.report["m"]["2"]["ok"]
        assert unavailable(prepared)["m"]["2"].startswith("quarantined since 2026-11-23T06:00:00Z")


def test_a_broken_version_is_tried_again(root):
    path = root / "m" / "2" / "model.onnx"
    graph = path.read_bytes()
    path.write_bytes(b"no graph")
    first = prepare(snapshot(root), NOTHING)
    path.write_bytes(graph)
    assert prepare(snapshot(root, 2), first).report["m"]["2"]["ok"]


def test_a_version_that_the_record_cannot_describe_is_a_broken_one(root):
    def refuse(served):
        raise ConfigurationError([Problem(f"{served.model}/{served.version}", "", "its schema takes too much")])

    prepared = prepare(snapshot(root), NOTHING, register=refuse)
    assert all(isinstance(served, GatewayError) for served in prepared.loaded.values())
    assert compiled(prepared) == {}
    assert "its schema takes too much" in prepared.report["m"]["1"]["reason"]


def test_a_model_of_which_nothing_loaded_is_not_served(root):
    for version in ("1", "2"):
        (root / "m" / version / "model.onnx").write_bytes(b"no graph")
    prepared = prepare(snapshot(root), NOTHING)
    assert compiled(prepared) == {}
    assert set(unavailable(prepared)["m"]) == {"1", "2"}


def test_what_control_knows_of_versions_is_kept(root):
    document = snapshot(root)
    document["unavailable"] = {"m": {"4": "it only shadows"}, "gone": {"any": "no model.onnx"}}
    prepared = prepare(document, NOTHING)
    assert unavailable(prepared) == document["unavailable"]
    unavailable(prepared)["m"]["5"] = "changed by somebody"
    assert "5" not in document["unavailable"]["m"]


def test_preparing_changes_nothing_that_serves(root):
    first = prepare(snapshot(root), NOTHING)
    compiled(first)
    before = {key: (served.schema, served.counters) for key, served in first.loaded.items()}
    document = snapshot(root, 2, m={"recording": {"mode": "off"}})
    document["models"]["m"]["versions"]["1"]["counters"] = 40
    prepare(document, first, register=lambda served: "another")
    assert {key: (served.schema, served.counters) for key, served in first.loaded.items()} == before


def test_versions_get_their_slot_schema_and_name(root):
    served = compiled(prepare(snapshot(root), NOTHING))["m"]
    assert [version.counters for version in served.versions.values()] == [0, 1]
    assert served.versions[b"1"].schema == "schema of m@1"
    assert (served.unrouted.schema, served.unrouted.counters) == ("schema of m@", 1), "like the default"


def test_a_version_without_a_slot_is_not_counted_in_another_s(root):
    document = snapshot(root)
    for entry in document["models"]["m"]["versions"].values():
        del entry["counters"]
    served = compiled(prepare(document, NOTHING))["m"]
    assert {served.default.counters, served.unrouted.counters} == {NOT_COUNTED}


def test_a_split_of_which_a_version_is_missing_becomes_the_default(root):
    (root / "m" / "2" / "model.onnx").write_bytes(b"no graph")
    document = snapshot(root, m={"traffic": split(("1", 5000), ("2", 5000)), "default_version": "2"})
    served = compiled(prepare(document, NOTHING))["m"]
    assert served.slots is None
    assert served.default.version == "1"


def test_a_split_begins_elsewhere_in_every_worker_and_goes_on_where_it_was(root):
    prepared = prepare(snapshot(root, m={"traffic": split(("1", 5000), ("2", 5000))}), NOTHING)
    positions = {compiled(prepared, salt=worker)["m"].slots.next_position for worker in range(8)}
    assert len(positions) == 8
    before = compiled(prepared)
    for _ in range(5):
        before["m"].slots.choose_by_counter()
    assert compiled(prepared, salt=3, before=before)["m"].slots.next_position == 5
    assert compiled(prepared, before={})["m"].slots.next_position == 0


def test_a_version_that_is_no_longer_named_goes_with_its_snapshot(root):
    first = prepare(snapshot(root), NOTHING)
    gone = weakref.ref(first.loaded["m", "1"].session)
    document = snapshot(root, 2)
    del document["models"]["m"]["versions"]["1"]
    second = prepare(document, first)
    kept = compiled(second)
    gc.disable()
    try:
        del first
        assert gone() is None
    finally:
        gc.enable()
    assert isinstance(kept["m"].default, ServedVersion)
