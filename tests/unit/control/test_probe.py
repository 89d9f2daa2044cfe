"""Versions are tried in a child process, and whoever takes it along is named."""

import stat
import sys

import pytest

from gateway.control.repository import probe as module
from gateway.control.repository.catalog import read_model


@pytest.fixture
def offered(folders):
    for version in ("1", "2", "3"):
        folders.version("m", version)
    return read_model(folders.path, "m")


@pytest.fixture
def child_that(tmp_path, monkeypatch):
    """Put a program in the place of the child's interpreter."""

    def use(script):
        program = tmp_path / "child"
        program.write_text(f"#!{PYTHON}\nimport json, os, sys\nasked = json.load(sys.stdin)\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(module.sys, "executable", str(program))

    return use


PYTHON = sys.executable
SAY = "def say(entry): print(json.dumps({'version': entry['version'], 'report': {'ok': True}}), flush=True)\n"


def test_every_version_is_reported(offered, child_that):
    child_that(SAY + "print('noise')\nfor entry in asked: say(entry)")
    assert module.probe(offered, list(offered.versions.values())) == {version: {"ok": True} for version in "123"}


def test_the_version_that_kills_the_child_is_blamed_and_the_rest_go_on(offered, child_that):
    child_that(
        SAY + "for entry in asked:\n"
        "    if entry['version'] == '2': os.kill(os.getpid(), 11)\n"
        "    say(entry)"
    )  # fmt: skip
    reports = module.probe(offered, list(offered.versions.values()))
    assert reports == {
        "1": {"ok": True},
        "2": {"ok": False, "reason": "loading it crashes the process (SIGSEGV)"},
        "3": {"ok": True},
    }


def test_the_last_words_of_a_child_that_ends_are_the_reason(offered, child_that):
    child_that("print('first', file=sys.stderr)\nsys.exit('out of memory')")
    reports = module.probe(offered, [offered.versions["1"]])
    assert reports["1"]["reason"] == "loading it ends the process: out of memory"
    child_that("sys.exit(3)")
    assert module.probe(offered, [offered.versions["1"]])["1"]["reason"] == "loading it ends the process: exit code 3"


def test_a_version_that_never_ends_loading_is_given_up(offered, child_that, monkeypatch):
    monkeypatch.setattr(module, "LOAD_SECONDS", 0.5)
    child_that(SAY + "import time\nsay(asked[0])\ntime.sleep(60)")
    reports = module.probe(offered, [offered.versions["1"], offered.versions["2"]])
    assert reports == {"1": {"ok": True}, "2": {"ok": False, "reason": "loading takes longer than 0.5 s"}}


def test_nothing_is_started_for_no_versions(offered, child_that):
    child_that("os.abort()")
    assert module.probe(offered, []) == {}


def test_the_real_child_says_what_onnx_runtime_says(offered):
    pytest.importorskip("onnxruntime")
    report = module.probe(offered, [offered.versions["1"]])["1"]
    assert report["ok"] is False
    assert "model.onnx" in report["reason"]
