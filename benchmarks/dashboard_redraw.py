"""What the live dashboard costs: CPU share of one core and bytes a second to the terminal, measured on a real pseudo-terminal.

    python benchmarks/dashboard_redraw.py [--seconds 10] [--json]

The run is a played one that tells its metrics ten times a second, as a real one does at most. The targets are at most 10 % of one
core, and at 80x24 at most 16 KB/s (a 128 kbit/s link).

The own `LineChart` against textual-plotext 1.0.1 (4 series of 4,096 points at 76x18, one new point each and a redraw; plotext got
them down-sampled): 5.8 ms and 0.2 KB an update against 27.5 ms and 3.9 KB, on the same machine with 2 busy cores.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mmkd_tui.app import MmkdApp
from mmkd_tui.fake_client import FakeClient

CPU_TARGET, BYTES_TARGET = 0.10, 16_000
SIZES = ((160, 48), (100, 30), (80, 24))
WARM_UP = 4.0  # seconds
PLACE = 150.0  # seconds into the story: distillation, every chart has its lines


class Measured(MmkdApp):
    """The app, which writes down what it has cost and leaves."""

    def __init__(self, report: Path, seconds: float) -> None:
        client = FakeClient(speed=1.0)
        client.skip_to(PLACE)
        super().__init__(runs_dir=Path("runs"), client=client)
        self._report, self._seconds = report, seconds

    def on_ready(self) -> None:
        self.set_timer(WARM_UP, self._begin)

    def _begin(self) -> None:
        self._began = time.monotonic(), time.process_time()
        self.set_timer(self._seconds, self._end)

    def _end(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        figures = {"from": self._began[0], "to": wall, "cpu": (cpu - self._began[1]) / (wall - self._began[0])}
        self._report.write_text(json.dumps(figures), encoding="utf-8")
        self.exit("")


def measure(columns: int, rows: int, seconds: float) -> dict[str, float]:
    """Runs the dashboard in a child on a pseudo-terminal of this size, and reads all that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS=str(columns), LINES=str(rows))
            os.environ["MMKD_CONFIG"] = folder
            Measured(report, seconds).run()
            os._exit(0)
        chunks: list[tuple[float, int]] = []
        deadline = time.monotonic() + WARM_UP + seconds + 60
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the child has closed its side
                break
            if not data:
                break
            chunks.append((time.monotonic(), len(data)))
        os.close(terminal)
        os.waitpid(pid, 0)
        figures = json.loads(report.read_text(encoding="utf-8"))
    sent = sum(size for at, size in chunks if figures["from"] <= at <= figures["to"])
    return {"columns": columns, "rows": rows, "cpu": figures["cpu"], "bytes_per_second": sent / (figures["to"] - figures["from"])}


def main() -> int:
    """Prints the figures; the exit code is 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    missed = False
    for columns, rows in SIZES:
        figures = measure(columns, rows, options.seconds)
        missed |= figures["cpu"] > CPU_TARGET or ((columns, rows) == (80, 24) and figures["bytes_per_second"] > BYTES_TARGET)
        line = f"{columns}x{rows}: {100 * figures['cpu']:.1f}% of a core, {figures['bytes_per_second'] / 1000:.2f} KB/s"
        sys.stdout.write((json.dumps(figures) if options.json else line) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
