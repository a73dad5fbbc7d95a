"""What happens to a run when its user goes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.doctor.finding import Finding

SECTION = "session"
LEAST_FILES = 1024
SYSTEMD = Path("/run/systemd/system")
DETACHED = "a detached run outlives its terminal"


def findings(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Of logout, the job scheduler and the process's limits."""
    if job := environment.get("SLURM_JOB_ID"):
        # Slurm signals a job's steps, and not its batch script: a run that this starts by itself would never be told.
        remedy = "ask for enough time (--time); --signal=TERM@120 gives a run that `srun mmkd run ...` starts two minutes to save"
        yield Finding(SECTION, "Slurm", f"job {job[:32]}: its end ends every run in it", "note", remedy)
    yield _logout(environment)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files != resource.RLIM_INFINITY and files < LEAST_FILES
    yield Finding(SECTION, "open files", str(files), "warning" if few else "ok", f"ulimit -n {4 * LEAST_FILES}" if few else "")


def _logout(environment: Mapping[str, str]) -> Finding:
    if not SYSTEMD.is_dir():
        return Finding(SECTION, "logout", f"no systemd here: {DETACHED}")
    user = environment.get("USER") or str(os.getuid())
    kills, lingers = _kills_at_logout(), _asked("loginctl", "show-user", user, "--property=Linger", "--value")
    if kills == "no":
        return Finding(SECTION, "logout", f"the system leaves processes alone: {DETACHED}")
    if lingers == "yes":
        return Finding(SECTION, "logout", f"lingering is on: {DETACHED}")
    remedy = "loginctl enable-linger keeps your processes; so does systemd-run --user --scope mmkd run PRESET"
    if kills == "yes":
        return Finding(SECTION, "logout", "the system ends all your processes, runs too", "problem", remedy)
    return Finding(SECTION, "logout", "whether the system ends your processes is not known", "note", remedy)


def _kills_at_logout() -> str:
    """logind's KillUserProcesses: "yes", "no", or "" where that cannot be found out."""
    login = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    said = _asked("busctl", "get-property", *login, "KillUserProcesses")
    return {"b true": "yes", "b false": "no"}.get(said, "")


def _asked(*command: str) -> str:
    """What a program of the system answers; "" where there is none, or it does not answer."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
