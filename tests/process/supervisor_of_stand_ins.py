"""The real supervisor, whose children are stand-ins: ``python supervisor_of_stand_ins.py CONFIG.json``."""

import resource
import sys
from pathlib import Path

from gateway.process.child_commands import ChildPlace, arguments
from gateway.process.state_directory import StartError
from gateway.process.supervisor import Supervisor
from gateway.process.supervisor_settings import SupervisorSettings, read_settings
from gateway.process.worker_set import Member, RestartBackOff

STAND_IN = str(Path(__file__).with_name("stand_in.py"))


def stand_in_command(member: Member, settings: SupervisorSettings, place: ChildPlace) -> list[str]:
    return [sys.executable, STAND_IN, member.role, *arguments(member, settings, place)]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
    try:
        sys.exit(Supervisor(read_settings(sys.argv[1]), stand_in_command, RestartBackOff(first=0.05)).run())
    except StartError as error:
        sys.exit(f"refused: {error}")
