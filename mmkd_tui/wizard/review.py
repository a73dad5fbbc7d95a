"""The wizard's last page: the preset as it is saved, what it will roughly take, saving and starting."""

from __future__ import annotations

import re

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from engine.preset import Preset
from engine.text import plain
from mmkd_tui.draft import Problem
from mmkd_tui.estimates import cache_size, estimate, is_counted, rough_time, size_words, unknown_sizes
from mmkd_tui.starting import hindrance
from mmkd_tui.widgets.lines import escaped
from mmkd_tui.widgets.table import shown_text
from mmkd_tui.wizard.form import Form
from mmkd_tui.wizard.step import Bench, Step

_KEY = re.compile(r"^(\s*(?:- )*)([a-z_]+)(:)", re.MULTILINE)


class ReviewStep(Step):
    """All of it."""

    TITLE = "Review"
    HINT = "This is what will run: start it, save it, or go back and change it."
    PARTS = ("name", "description")

    def body(self) -> ComposeResult:
        self.yaml = Static("", markup=False, id="yaml")
        self.guess = Static("", markup=False, id="guess")
        yield Form(self.bench.draft, [("name",), ("description",)], ascii=self.bench.ascii)
        with Horizontal(id="review-columns"):
            with VerticalScroll(id="yaml-frame") as frame:
                frame.border_title = "preset.yaml"
                yield self.yaml
            with Vertical(id="guess-frame") as other:
                other.border_title = "Roughly"
                yield self.guess

    @property
    def first(self) -> Widget:
        return self.query(".field").first()

    def entered(self) -> None:
        """Called at every change, too: name and description are typed here."""
        preset, text, problems = self.bench.draft.preset(), self.bench.draft.yaml(), self.bench.draft.problems()
        if preset is None or text is None or problems:
            self.yaml.update(self._mistakes(problems))
            self.guess.update("Estimates follow when nothing is missing or wrong.")
        else:
            self.yaml.update(coloured(escaped(plain(text, keep="\n"), self.bench.ascii)))
            # With their spaces, by which they are aligned.
            self.guess.update("\n".join(escaped(plain(line), self.bench.ascii) for line in guess_lines(preset, self.bench)))

    def _mistakes(self, problems: list[Problem]) -> Content:
        said = [f"{self.bench.marks.wrong} {shown_text(problem.sentence, self.bench.ascii)}" for problem in problems]
        count = f"{len(said)} thing{'s are' if len(said) != 1 else ' is'} missing or wrong:"
        return Content("\n".join([count, *said]))


def coloured(text: str) -> Content:
    """YAML with its keys set off."""
    content = Content(text)
    for found in _KEY.finditer(text):
        content = content.stylize("bold", found.start(2), found.end(3))
    return content


def guess_lines(preset: Preset, bench: Bench) -> list[str]:
    """What a run takes, a line each."""
    if not is_counted(preset.dataset):
        stop = hindrance(preset, bench.data_root)
        return [
            f"{bench.marks.wrong} {stop}"
            if stop
            else "The folder holds too much to be counted here: what a run takes is not known."
        ]
    guess = estimate(preset, bench.stock, bench.machine)
    new = [seconds for seconds in guess.teachers if seconds]
    files = sum(not part.trained for part in preset.teachers)
    stored = len(preset.teachers) - len(new) - files
    parts = [
        f"{len(new)} to train" if new else "",
        f"{stored} in the store" if stored else "",
        f"{files} given" if files else "",
    ]
    lines = [f"Teachers      {', '.join(part for part in parts if part) or 'none'}"]
    if new:
        lines.append(f"              {rough_time(sum(new))}")
    if guess.alone:
        lines.append(f"Student alone {rough_time(guess.alone)}")
    if guess.distil:
        lines.append(f"Distillation  {rough_time(guess.distil)}")
    lines += [
        f"In all        {rough_time(guess.total)}",
        f"Memory        {size_words(guess.memory)}{' of the GPU' * (guess.kind == 'cuda')}",
        f"Disk          {size_words(guess.disk)}",
    ]
    if preset.teacher_cache is not None and not preset.only_teachers:
        kept = size_words(cache_size(preset))
        lines.append(f"Teacher cache {kept} of {'the memory' if preset.teacher_cache.storage == 'memory' else 'the disk'}")
    if guess.samples:
        source = f"corrected by {guess.samples} training{'s' * (guess.samples != 1)} in the store"
    elif bench.stock.networks:
        source = "no training in the store was long enough, on a device of this kind, to correct it by"
    else:
        source = "no training in the store to correct it by"
    lines += ["", f"A rough guess from parameters, image size and steps; {source}."]
    if unknown := unknown_sizes(preset):
        lines.append(f"How large {', '.join(unknown)} is, is not known before it is built: read these figures with doubt.")
    stop = hindrance(preset, bench.data_root)
    return [*lines, "", f"{bench.marks.wrong} {stop}"] if stop else lines
