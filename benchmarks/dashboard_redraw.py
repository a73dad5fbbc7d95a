"""What a live dashboard costs: CPU share of one core and bytes a second to the terminal, measured on a real pseudo-terminal.

    python benchmarks/dashboard_redraw.py [--seconds 10] [--hz 4] [--json]

The targets are at most 10 % of one core, and at 80x24 at most 16 KB/s (a 128 kbit/s link).

The own `LineChart` against textual-plotext 1.0.1 (4 series of 4,096 points at 76x18, one new point each and a redraw; plotext got
them down-sampled): 5.8 ms and 0.2 KB an update against 27.5 ms and 3.9 KB, on the same machine with 2 busy cores.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import pty
import random
import select
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TEXTUAL_FPS", "15")
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")

from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical

from mmkd_tui.widgets.chart import LineChart, Reference
from mmkd_tui.widgets.strip import HistoryStrip
from mmkd_tui.widgets.weight_bars import WeightBars, Weights

TEACHERS = ("resnet56", "vgg13", "wrn-40-2")
LOSSES = ("total", "CE", "logit", "feature")
ACCURACIES = ("validation", "train", "best", "hard buffer")
EPOCHS, STEPS = 240, 60  # steps: points an epoch
POINTS = 4096
CPU_TARGET, BYTES_TARGET = 0.10, 16_000
SIZES = ((160, 48), (80, 24))
WARM_UP = 2.0  # seconds

Numbers = dict[str, float | None]


class Story:
    """Numbers such as a run gives, the same at each call."""

    def __init__(self) -> None:
        self.step = 0
        self._random = random.Random(7)

    def next(self) -> tuple[float, Numbers, Numbers, tuple[Weights, Weights]]:
        """x in epochs, losses, accuracies, weights."""
        x = self.step / STEPS
        self.step += 1
        fall = math.exp(-x / 25)
        ce, logit, feature = (a * fall + b + self._noise(0.15 * a) for a, b in ((2.0, 0.25), (1.2, 0.1), (0.6, 0.2)))
        validation = 0.92 - 0.75 * math.exp(-x / 12)
        losses: Numbers = {"total": ce + logit + feature, "CE": ce, "logit": logit, "feature": feature}
        if self.step in (1500, 1501):
            losses["feature"] = math.nan
        shares = {
            "validation": validation + self._noise(0.01),
            "train": validation - 0.05 + self._noise(0.02),
            "best": validation + 0.01,
            "hard buffer": validation - 0.25 + self._noise(0.05),
        }
        accuracies: Numbers = {name: min(max(share, 0.0), 1.0) for name, share in shares.items()}
        first = 0.34 + 0.16 * math.sin(x / 9) + self._noise(0.01)
        second = 0.30 + 0.10 * math.cos(x / 14) + self._noise(0.01)
        means = (first, second, 1.0 - first - second)
        swapped = (means[2], means[0], means[1])
        weights = Weights("logit", means, (0.11, 0.06, 0.04)), Weights("feature", swapped, (0.02, 0.09, 0.05))
        return x, losses, accuracies, weights

    def _noise(self, size: float) -> float:
        return self._random.uniform(-size, size)


class Dashboard(App[None]):
    """The whole set of widgets. Narrow: the charts are lower and the weights stand one below the other."""

    CSS = """
    LineChart, WeightBars, HistoryStrip { border: round $panel; border-title-color: $text-muted; }
    #right { width: 2fr; }
    #left { width: 3fr; }
    HistoryStrip { height: 5; }
    #right > WeightBars { height: 10; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012

    def __init__(self, report: Path | None = None, seconds: float = 10.0, hz: float = 4.0, ascii: bool = False) -> None:
        super().__init__()
        self._report = report
        self._seconds = seconds
        self._hz = hz
        self.story = Story()
        epochs = (0.0, float(EPOCHS))
        beat = (Reference("resnet56", 0.931), Reference("vgg13", 0.885), Reference("wrn-40-2", 0.802))
        self.loss = LineChart(LOSSES, x_label="epoch", x_range=epochs, ascii=ascii)
        self.accuracy = LineChart(ACCURACIES, x_label="epoch", x_range=epochs, references=beat, percent=True, ascii=ascii)
        self.bars = WeightBars(TEACHERS, ascii=ascii)
        self.history = HistoryStrip(TEACHERS, x_range=epochs, ascii=ascii)
        for widget, title in (
            (self.loss, "loss"),
            (self.accuracy, "accuracy"),
            (self.bars, "teachers' weights"),
            (self.history, "logit weights over the run"),
        ):
            widget.border_title = title

    def compose(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="left"):
                yield self.loss
                yield self.accuracy
            with Vertical(id="right"):
                yield self.bars
                yield self.history

    def on_mount(self) -> None:
        for _ in range(POINTS):
            self.tick()
        if self._report is not None:
            self.set_interval(1 / self._hz, self.tick)
            self.set_timer(WARM_UP, self._begin)

    def tick(self) -> None:
        """New numbers for every widget."""
        x, losses, accuracies, weights = self.story.next()
        self.loss.append(x, losses)
        self.accuracy.append(x, accuracies)
        self.bars.show(*weights)
        self.history.append(x, weights[0].means)

    def _begin(self) -> None:
        self._began = time.monotonic(), time.process_time()
        self.set_timer(self._seconds, self._end)

    def _end(self) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        if self._report is not None:
            figures = {"from": self._began[0], "to": wall, "cpu": (cpu - self._began[1]) / (wall - self._began[0])}
            self._report.write_text(json.dumps(figures), encoding="utf-8")
        self.exit()


def measure(columns: int, rows: int, seconds: float, hz: float) -> dict[str, float]:
    """Runs the dashboard in a child on a pseudo-terminal of this size, and reads all that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pid, terminal = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS=str(columns), LINES=str(rows))
            Dashboard(report, seconds, hz).run()
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
    parser.add_argument("--hz", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    missed = False
    for columns, rows in SIZES:
        figures = measure(columns, rows, options.seconds, options.hz)
        missed |= figures["cpu"] > CPU_TARGET or ((columns, rows) == (80, 24) and figures["bytes_per_second"] > BYTES_TARGET)
        line = f"{columns}x{rows}: {100 * figures['cpu']:.1f}% of a core, {figures['bytes_per_second'] / 1000:.2f} KB/s"
        sys.stdout.write((json.dumps(figures) if options.json else line) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
