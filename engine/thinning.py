"""What of a long run's `events.jsonl` stays when it has grown too large: as many `metrics` as charts can show, and all the rest.

Every line that stays is as it was written, in its old place: a file that was thinned reads like any other. The steps of each
training are cut into pieces of one length, and of each piece three `metrics` stay: those of the lowest, median and highest loss.
What is thinned again and again is therefore as dense at its beginning as at its end, and no peak is lost. Ends of epochs,
messages, phases, checkpoints and what the teachers reached are never thinned. Only where the weights by class, which a display
shows of the newest epoch, fill the file themselves, every second (fourth, ...) epoch keeps its own.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO, NamedTuple

from engine.events import CacheProgress, EpochEnded, Metrics, from_line, number_of, to_line

# Of the bytes that a file may have. With 24 MB, 6 MB of metrics are some 12,000 lines, of which a chart makes 2,000 points.
METRICS = 1 / 4  # those that stay
TABLES = 1 / 4  # the ends of epochs with weights by class; where they take more, weights are left out
RECENT = 1 / 64  # the newest lines, of whatever kind, stay all: they tell the pace
LONGEST = 1 << 19  # bytes of a line
OF_A_PIECE = 3  # the lowest, the median, the highest
STAYS, GOES, STRIPPED = range(3)  # what becomes of a line; stripped of its weights by class

# Nearly every line is one of these, and the training waits while they are read.
_POINT = re.compile(
    rb'\{"kind":"metrics","n":\d+,"t":[\d.e+]+,"phase":"(?P<phase>\w+)","index":(?P<index>\d{1,9}),"epoch":\d+,'
    rb'"step":(?P<step>\d{1,18}),"lr":[\d.e-]+,"loss":(?P<loss>null|-?\d{1,30}(\.\d{1,30})?(e[+-]?\d{1,4})?),[^{}]*\}\n'
)

Training = tuple[str, int]  # its phase and index


@dataclass(slots=True)
class _Points:
    """The `metrics` of one training: where they stand, at which steps, with which losses."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    steps: array[int] = field(default_factory=lambda: array("q"))
    losses: array[float] = field(default_factory=lambda: array("d"))

    def add(self, line: int, step: int, loss: float) -> None:
        self.lines.append(line)
        self.steps.append(step)
        self.losses.append(loss)

    def dropped(self, most: int) -> Iterator[int]:
        """The lines that go, so that at most `most` stay."""
        if len(self.lines) <= most:
            return
        pieces = max(most // OF_A_PIECE, 1)
        width = 1  # in steps; of a power of two, the pieces of the next time are made up of whole ones of this time
        while max(self.steps) // width >= pieces:
            width *= 2
        members: dict[int, list[int]] = defaultdict(list)
        for place, step in enumerate(self.steps):
            members[step // width].append(place)
        for places in members.values():
            places.sort(key=self.losses.__getitem__)
            kept = {0, len(places) // 2, len(places) - 1}
            yield from (self.lines[place] for rank, place in enumerate(places) if rank not in kept)


class _Table(NamedTuple):
    """The end of an epoch that has weights by class."""

    line: int
    epoch: int
    size: int  # bytes


def thin(source: BinaryIO, target: BinaryIO, limit: int) -> None:
    """Writes to `target` what stays of the events in `source`, a file of some `limit` bytes: where nothing but metrics takes much
    room, a third of that. Lines of kinds that are not known here stay, torn ones do not.
    """
    fates = _plan(source, limit)
    source.seek(0)
    for line, fate in zip(lines_of(source), fates, strict=True):
        if fate != GOES and line.endswith(b"\n"):
            target.write(_without_tables(line) if fate == STRIPPED else line)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """From where the file stands; a line of more than 512 KiB, which is no event, comes in parts."""
    return iter(lambda: file.readline(LONGEST), b"")


def _plan(source: BinaryIO, limit: int) -> bytearray:
    """What becomes of each line."""
    source.seek(0, 2)
    recent_from = source.tell() - limit * RECENT
    source.seek(0)
    points: dict[Training, _Points] = defaultdict(_Points)
    tables: dict[Training, list[_Table]] = defaultdict(list)
    fates = bytearray()
    row = offset = metrics_bytes = 0  # row: how many tellings of the teacher cache's progress stand directly before
    for number, line in enumerate(lines_of(source)):
        fates.append(STAYS)
        offset += len(line)
        if number == 0 or offset > recent_from:
            continue
        if quick := _POINT.fullmatch(line):
            place, loss = (quick["phase"].decode(), int(quick["index"])), quick["loss"]
            points[place].add(number, int(quick["step"]), math.inf if loss == b"null" else float(loss))
            metrics_bytes += len(line)
            row = 0
            continue
        event = from_line(line.decode(errors="replace"))
        if isinstance(event, Metrics):
            points[event.phase, event.index].add(number, event.step, math.inf if event.loss is None else event.loss)
            metrics_bytes += len(line)
        elif isinstance(event, EpochEnded) and (event.logit_weights_by_class or event.feature_weights_by_class):
            tables[event.phase, event.index].append(_Table(number, event.epoch, len(line)))
        elif isinstance(event, CacheProgress) and row > 1:
            fates[number - 1] = GOES  # of some in a row, the first and the newest tell all
        elif event is None and not line.rstrip().endswith(b"}"):
            fates[number] = GOES  # a crash tore it
        row = row + 1 if isinstance(event, CacheProgress) else 0
    counts = {training: len(found.lines) for training, found in points.items()}
    lines = int(limit * METRICS * sum(counts.values()) / max(metrics_bytes, 1))
    for training, most in _shares(counts, lines).items():
        for number in points[training].dropped(most):
            fates[number] = GOES
    for number in _stripped(tables, int(limit * TABLES)):
        fates[number] = STRIPPED
    return fates


def _shares(counts: dict[Training, int], left: int) -> dict[Training, int]:
    """How many of `left` lines each training may keep: a short one all, the others the same number."""
    shares: dict[Training, int] = {}
    for place, (training, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        shares[training] = min(count, left // (len(counts) - place))
        left -= shares[training]
    return shares


def _stripped(tables: dict[Training, list[_Table]], most_bytes: int) -> list[int]:
    """Those that lose their weights by class; the newest of a training does not."""
    every, most = 1, max((one.epoch for rows in tables.values() for one in rows), default=0)
    while every <= most and sum(one.size for rows in tables.values() for one in rows if one.epoch % every == 0) > most_bytes:
        every *= 2
    return [one.line for rows in tables.values() for one in rows[:-1] if one.epoch % every]


def _without_tables(line: bytes) -> bytes:
    event = from_line(line.decode())
    assert isinstance(event, EpochEnded)
    return to_line(without_tables(event), number_of(line)).encode()


def without_tables(event: EpochEnded) -> EpochEnded:
    """The same without its weights by class."""
    return replace(event, logit_weights_by_class=(), feature_weights_by_class=())
