"""`mmkd run quickstart` for five seeds, as a user types it: a Markdown table of accuracies and seconds.

    python benchmarks/quickstart_seeds.py [--set KEY=VALUE ...]

The first run trains the teachers into an empty store; the others find them there. What follows the script's name goes to
`mmkd run`.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEEDS = range(5)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"MMKD_TEACHERS": str(Path(folder) / "teachers"), "MMKD_CACHE": str(Path(folder) / "cache")}
        for seed in SEEDS:
            started = time.monotonic()
            asked = ["run", "quickstart", "--seed", str(seed), "--json", "--quiet", *sys.argv[1:]]
            command = [str(Path(sys.executable).with_name("mmkd")), *asked]
            done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            rows.append((json.loads(done.stdout), time.monotonic() - started))
    torch = rows[0][0]["versions"]["torch"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch}\n")
    print("| seed | student alone | student distilled | gain | seconds |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for result, seconds in rows:
        alone, student = result["student_alone_accuracy"], result["student_accuracy"]
        print(f"| {result['seed']} | {alone:.2%} | {student:.2%} | {(student - alone) * 100:+.2f} | {seconds:.0f} |")
    alone, student = (statistics.mean(r[name] for r, _ in rows) for name in ("student_alone_accuracy", "student_accuracy"))
    print(f"| mean | {alone:.2%} | {student:.2%} | {(student - alone) * 100:+.2f} | |")
    teachers = ", ".join(f"{t['accuracy']:.2%}" for t in rows[0][0]["teachers"])
    print(f"\nTeachers: {teachers}; their plain average: {rows[0][0]['ensemble_accuracy']:.2%}.")


if __name__ == "__main__":
    main()
