"""A vocabulary of a million entries in a plan: what it adds to loading and to memory, and what a lookup takes."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway._fast.vocabulary import Vocabulary, nanoseconds_a_lookup_for_bench
from gateway.features import Plan
from loadtests.findings import Bench, Findings
from loadtests.rounds import Figure
from loadtests.scenario import Scenario

ENTRIES = 1_000_000
#: What a process of its own runs: it prints the resident bytes that the second page's plan adds to those of the first.
_RESIDENT = """
import gc, resource, sys
from gateway.features import Plan

def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

small = Plan.from_yaml(sys.argv[1])
before = resident()
large = Plan.from_yaml(sys.argv[2])
print(resident() - before)
"""


def run(scenario: Scenario, bench: Bench) -> Findings:
    """Each form of entries in each round; a figure of a round is that of the form that does worst."""
    findings = Findings()
    forms = made_forms(random.Random(1))
    rounds: dict[str, list[float]] = {"loading_s": [], "memory": [], "lookup_us": [], "unseen_us": []}
    with TemporaryDirectory(prefix="loadtest-vocabulary-") as folder:
        pages = {name: _write_page(Path(folder) / name, texts) for name, texts in {**forms, "small": [b"one"]}.items()}
        _seconds_to_load(pages["small"])  # what the first plan of a process imports is nobody's cost
        for number in range(scenario.rounds):
            bench.say(f"round {number + 1} of {scenario.rounds}")
            for figure, values in _one_round(forms, pages, number).items():
                rounds[figure].append(max(values))
        findings.void += [
            f"{name}: a lookup gives another code" for name, texts in forms.items() if not _codes_are_right(texts)
        ]
    findings.figures = {name: Figure.of(values, _UNITS[name]) for name, values in rounds.items()}
    return findings


_UNITS = {"loading_s": "s", "memory": "x", "lookup_us": "µs", "unseen_us": "µs"}


def made_forms(generator: random.Random) -> dict[str, list[bytes]]:
    """A million entries of each form, in no order: identifiers of ten digits, counted ones, words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words: set[str] = set()
    while len(words) < ENTRIES:
        words.add("".join(generator.choices(letters, k=generator.randint(5, 15))))
    forms = {
        "digits": [b"%010d" % (i * 7919) for i in range(ENTRIES)],
        "counted": [b"%d" % i for i in range(ENTRIES)],
        "words": [word.encode() for word in sorted(words)],
    }
    for texts in forms.values():
        generator.shuffle(texts)
    return forms


def _one_round(forms: dict[str, list[bytes]], pages: dict[str, Path], number: int) -> dict[str, list[float]]:
    """By figure: the value of each form."""
    generator = random.Random(number)
    found: dict[str, list[float]] = {"loading_s": [], "memory": [], "lookup_us": [], "unseen_us": []}
    small = _seconds_to_load(pages["small"])
    for name, texts in forms.items():
        found["loading_s"].append(_seconds_to_load(pages[name]) - small)
        found["memory"].append(_resident_bytes(pages["small"], pages[name]) / sum(map(len, texts)))
        vocabulary = Vocabulary.of_texts(texts)
        asked = generator.choices(texts, k=ENTRIES)
        found["lookup_us"].append(nanoseconds_a_lookup_for_bench(vocabulary, asked)[0] / 1000)
        unseen = [text[:-1] + b"~" for text in asked]
        found["unseen_us"].append(nanoseconds_a_lookup_for_bench(vocabulary, unseen)[0] / 1000)
    return found


def _codes_are_right(texts: list[bytes]) -> bool:
    found = Vocabulary.of_texts(texts).codes_of([*texts, *(text[:-1] + b"~" for text in texts)])
    return found == [*range(len(texts)), *(-1 for _ in texts)]


def _write_page(folder: Path, texts: list[bytes]) -> Path:
    """A page whose one step has them as its vocabulary."""
    folder.mkdir()
    lines = b"\n".join(texts) + b"\n"
    (folder / "vocabulary.txt").write_bytes(lines)
    file = {"file": "vocabulary.txt", "sha256": hashlib.sha256(lines).hexdigest()}
    steps = [{"vocabulary_id": {"vocabulary": file}}]
    output = {"dtype": "int64", "features": [{"column": "entry", "steps": steps}]}
    page = folder / "features.yaml"
    page.write_text(json.dumps({"columns": {"entry": "string"}, "outputs": {"ids": output}}))
    return page


def _seconds_to_load(page: Path) -> float:
    started = time.perf_counter()
    Plan.from_yaml(page)
    return time.perf_counter() - started


def _resident_bytes(small: Path, large: Path) -> int:
    """What a loaded plan keeps resident, in a process of its own."""
    command = [sys.executable, "-c", _RESIDENT, str(small), str(large)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
