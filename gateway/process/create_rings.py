"""Makes the shared memory that compiled code lays out: rings and counters. Started by the supervisor, before workers.

python -m gateway.process.create_rings --config STATE_DIR/run/server.json --shm-dir DIR --ring w0 --ring s0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway._fast.counters import create_counters
from gateway._fast.record_ring import create_ring
from gateway.core.errors import GatewayError
from gateway.process.supervisor_settings import read_settings


def main() -> int:
    """The program. Exit code 1, with a line on stderr, if something cannot be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--shm-dir", required=True, type=Path)
    parser.add_argument("--ring", action="append", default=[], help="name of a ring, e.g. w0")
    arguments = parser.parse_args()
    settings = read_settings(arguments.config)
    try:
        for leftover in arguments.shm_dir.glob("*.ring"):
            leftover.unlink()  # recovered by now; with fewer workers than last time nobody would write it again
        for ring in arguments.ring:
            create_ring(arguments.shm_dir / f"{ring}.ring", settings.ring_bytes)
        create_counters(arguments.shm_dir / "counters", settings.counter_rows)
    except (GatewayError, OSError) as error:
        print(f"gateway: shared memory: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
