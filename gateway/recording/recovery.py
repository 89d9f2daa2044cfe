"""Before anything serves: what a killed gateway left in its rings is brought to segments, and rubbish is swept.

Nothing that was acknowledged is in doubt before or after: a ring's committed frames, the segments and the manifest's
parts are the record, and this only moves frames from the first to the second. It may itself be interrupted anywhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gateway.core.errors import Conflict, RecordCorrupt, Unavailable
from gateway.recording.copier import RingCopier, Rotation
from gateway.recording.manifest import Manifest
from gateway.recording.segments import BUILDERS_LOCK_NAME, LOCK_NAME

log = logging.getLogger(__name__)

#: How long builders of recorders that were killed are awaited.
BUILDER_EXIT_SECONDS = 10.0


@dataclass
class RecoveryReport:
    """What recovery found and did; kept as ``run/recovery-report.json``."""

    rings: dict[str, int] = field(default_factory=dict)
    """Bytes of frames that were brought from each ring to a segment."""
    damaged_rings: list[str] = field(default_factory=list)
    """Rings whose bytes were no frames somewhere; the files were kept in ``segments/quarantine``."""
    orphans_removed: int = 0
    """Parquet files that no transaction had made part of the record."""


def recover(state_dir: Path, shm_dir: Path, database_url: str) -> RecoveryReport:
    """Bring rings to segments and sweep. Raises Conflict where a recorder runs, Unavailable where it cannot write."""
    segments = state_dir / "segments"
    report = RecoveryReport()
    try:
        segments.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(segments):
            manifest = Manifest.open(database_url)
            try:
                for path in sorted(shm_dir.glob("*.ring")):
                    _recover_ring(path, segments, manifest, report)
                report.orphans_removed = remove_orphans(state_dir, manifest)
            finally:
                manifest.close()
        _write_report(state_dir / "run", report)
    except OSError as problem:
        raise Unavailable(
            f"the record cannot be recovered: {problem}", hint="make room in the state directory and start again"
        ) from problem
    return report


@contextlib.contextmanager
def _alone(segments: Path) -> Iterator[None]:
    fd = os.open(segments / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _no_builders(segments):
            yield
    except BlockingIOError as problem:
        raise Conflict(f"a recorder is at work in {segments}", hint="stop it before recovering") from problem
    finally:
        os.close(fd)


@contextlib.contextmanager
def _no_builders(segments: Path) -> Iterator[None]:
    # Builders die with their recorders, but one under SCHED_IDLE may have to wait for the CPU to do so.
    until = time.monotonic() + BUILDER_EXIT_SECONDS
    with open(segments / BUILDERS_LOCK_NAME, "ab") as lock:
        while True:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        yield


def _recover_ring(path: Path, segments: Path, manifest: Manifest, report: RecoveryReport) -> None:
    try:
        copier = RingCopier(
            path,
            segments,
            rotation=Rotation(),
            on_closed=lambda _segment: None,
            consumed=manifest.consumed,
            known=manifest.schemas,
            verify=True,  # a ring on a disk may have been torn by a power failure
        )
    except RecordCorrupt as problem:
        _keep_damaged(path, segments, problem, report)
        return
    brought = 0
    try:
        while copied := copier.step():
            brought += copied
    except RecordCorrupt as problem:
        _keep_damaged(path, segments, problem, report)
    copier.close()
    report.rings[copier.name] = brought


def _keep_damaged(path: Path, segments: Path, problem: RecordCorrupt, report: RecoveryReport) -> None:
    folder = segments / "quarantine"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(path, folder / f"{path.name}-{path.stat().st_ino}")
    log.error("%s; a copy of the ring is in %s", problem, folder)
    report.damaged_rings.append(path.stem)


def remove_orphans(state_dir: Path, manifest: Manifest, names: str = "*.parquet") -> int:
    """Delete Parquet files that the manifest does not list; returns how many.

    ``names`` matches file names. Nobody may be making such a file meanwhile. Raises OSError, Unavailable.
    """
    found = list((state_dir / "log").glob(f"model=*/date=*/{names}"))
    known = manifest.files() if found else set()
    orphans = [path for path in found if str(path.relative_to(state_dir)) not in known]
    for path in orphans:
        path.unlink()
    return len(orphans)


def _write_report(run: Path, report: RecoveryReport) -> None:
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    (run / "recovery-report.json").write_text(json.dumps(asdict(report)), encoding="utf-8")
