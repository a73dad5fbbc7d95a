"""The wizard's pages for data set, student, method and hardware."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from engine.architectures import architecture_of, is_architecture
from engine.catalog import DATASETS, METHODS, SHARDS, DatasetFacts
from engine.data_files import remedy
from engine.preset import METHOD_PARTS, EvaluatePart, HardwarePart, MetaPart, NonFinitePart, TrainPart
from engine.yaml_lines import KeyPath
from mmkd_tui.estimates import estimate, is_counted, size_words, training_images
from mmkd_tui.machine import Machine
from mmkd_tui.starting import data_is_here
from mmkd_tui.timm_names import trouble_with_name
from mmkd_tui.widgets.table import Column, FilterTable, Row, Table, shown_text
from mmkd_tui.wizard.form import DraftChanged, Form, SettingRow, show_row
from mmkd_tui.wizard.step import GoOn, Step

AS_LARGE = "as large"


class DatasetStep(Step):
    """Which images."""

    TITLE = "Data set"
    HINT = "Which images? Enter chooses a data set, and once more goes on."
    PARTS = ("dataset",)
    COLUMNS = (
        Column("data set", 14),
        Column("images", 8, right=True, most=9),
        Column("test", 7, right=True, least=64),
        Column("classes", 7, right=True),
        Column("pixels", 8, most=9),
        Column("where", 10, grow=True),
    )

    def body(self) -> ComposeResult:
        self.table = Table(self.COLUMNS, ascii=self.bench.ascii, id="datasets")
        paths: list[KeyPath] = [
            ("dataset", name)
            for name in ("path", "size", "resize", "shuffle", "validation_fraction", "train_images", "split_seed")
        ]
        self.said = Static("", classes="said", markup=False)
        yield self.table
        yield self.said
        with VerticalScroll(can_focus=False, classes="settings"):
            yield Form(self.bench.draft, paths, "Its images, and how they are split", ascii=self.bench.ascii)

    @property
    def first(self) -> Widget:
        return self.table.body

    def entered(self) -> None:
        chosen, own = self.bench.draft.dataset, self.bench.facts
        here = {name: data_is_here(name, self.bench.data_root) for name in DATASETS}
        self.table.show(
            [
                Row(
                    id=facts.name,
                    cells=(
                        facts.name,
                        *(
                            (f"{facts.train_images:,}", f"{facts.test_images:,}", str(len(facts.classes)))
                            if facts.classes
                            else ("-", "-", "-")
                        ),
                        f"{facts.size}x{facts.size}x{facts.channels}",
                        _where(facts) if here[facts.name] else "missing",
                    ),
                    mark=self.bench.marks.chosen if facts.name == chosen else self.bench.marks.free,
                    below=(facts.title,),
                    strong=facts.name == chosen,
                )
                for facts in (own if known.name == own.name else known for known in DATASETS.values())
            ]
        )
        self.table.point(chosen)
        missing = "" if here[chosen] else f"{chosen} is missing here. {remedy(own, self.bench.data_root)}"
        self.said.update(shown_text(missing, self.bench.ascii))
        self.said.display = bool(missing)
        show_row(self, ("dataset", "path"), own.own)
        show_row(self, ("dataset", "shuffle"), chosen == SHARDS)
        for name in ("size", "resize"):
            show_row(self, ("dataset", name), own.from_files)

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        if event.row == self.bench.draft.dataset:
            self.post_message(GoOn(self))
            return
        self.bench.draft.choose_dataset(event.row)
        for row in self.query(SettingRow):
            row.take_up()
        self.entered()
        self.post_message(DraftChanged())


class StudentStep(Step):
    """Which small network."""

    TITLE = "Student"
    HINT = "Which network is to learn? Type to filter; Enter chooses, once more goes on."
    PARTS = ("student",)
    COLUMNS = (
        Column("architecture", 14, grow=True),
        Column("family", 8, least=64),  # names often have it
        Column("parameters", 12, right=True),
        Column("than the teachers", 18, right=True),
    )

    def body(self) -> ComposeResult:
        self.table = FilterTable(self.COLUMNS, hint="type to filter", ascii=self.bench.ascii, id="students")
        self.said = Static("", classes="said", markup=False)
        yield self.table
        yield self.said

    @property
    def first(self) -> Widget:
        return self.table.filter

    def entered(self) -> None:
        chosen, bench = self.bench.draft.student, self.bench
        known = [bench.parameters(str(teacher["arch"])) for teacher in bench.draft.teachers]
        sizes = [size for size in known if size is not None]
        mean = sum(sizes) / len(sizes) if sizes else None

        def row(name: str) -> Row:
            compared = smaller(bench.parameters(name), mean)
            return Row(
                id=name,
                cells=(name, architecture_of(name).family, bench.parameters_text(name), compared),
                mark=bench.marks.chosen if name == chosen else bench.marks.free,
                strong=name == chosen,
            )

        listed = bench.listed if chosen in bench.listed or not is_architecture(chosen) else (chosen, *bench.listed)
        self.table.show(
            [row(name) for name in listed],
            "nothing fits the filter; shorten it, or type timm:NAME or torchvision:NAME",
            [row(name) for name in bench.searched if name != chosen],
            lambda text: row(text) if is_architecture(text) and not trouble_with_name(text) else None,
        )
        if is_architecture(chosen):
            compared = smaller(bench.parameters(chosen), mean)
            link = "as" if compared == AS_LARGE else "than"
            than = f", {compared} {link} {_those(len(sizes))} (mean {mean:,.0f})" if compared else ""
            on_data = f"for {bench.input_size} images and {len(bench.facts.classes)} classes"
            self.said.update(f"{chosen}: {bench.parameters_text(chosen)} parameters {on_data}{than}")
            if not self.table.filter.value:
                self.table.table.point(chosen)

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        if event.row == self.bench.draft.student:
            self.post_message(GoOn(self))
            return
        self.bench.draft.put(("student", "arch"), event.row)
        self.entered()
        self.post_message(DraftChanged())


class MethodStep(Step):
    """How the teachers are weighted, and the student's training."""

    TITLE = "Method"
    HINT = "How do the teachers count? Enter chooses a method; Tab goes to its settings."
    PARTS = ("method", "train", "evaluate", "seed")

    def body(self) -> ComposeResult:
        self.table = Table(
            (Column("", 6), Column("", 18), Column("", 20, grow=True, prose=True)), ascii=self.bench.ascii, id="methods"
        )
        self.settings = VerticalScroll(can_focus=False, classes="settings")
        self._built = ""
        yield self.table
        yield self.settings

    @property
    def first(self) -> Widget:
        return self.table.body

    def entered(self) -> None:
        chosen = self.bench.draft.method
        marks = self.bench.marks
        self.table.show(
            [
                Row(
                    id=facts.name,
                    cells=(facts.name, _teachers(facts.least_teachers, facts.most_teachers), f"{facts.title}: {facts.summary}"),
                    mark=marks.chosen if facts.name == chosen else marks.free,
                    strong=facts.name == chosen,
                )
                for facts in METHODS.values()
            ]
        )
        self.table.point(chosen)
        if self._built != chosen:
            first = not self._built
            self._built = chosen
            self._build(chosen, first)

    def _build(self, chosen: str, first: bool) -> None:
        draft, ascii = self.bench.draft, self.bench.ascii
        own: list[KeyPath] = [("method", name) for name in METHOD_PARTS[chosen].model_fields if name not in ("name", "meta")]
        forms = [Form(draft, own, f"{METHODS[chosen].title}: its settings", ascii=ascii)] if own else []
        if chosen == "mmkd":
            meta: list[KeyPath] = [("method", "meta", name) for name in MetaPart.model_fields]
            forms.append(Form(draft, meta, "meta: how the weights are learned", ascii=ascii))
        for form in self.query("Form.-method"):
            form.remove()
        for form in forms:
            form.add_class("-method")
        if first:
            train: list[KeyPath] = [("train", name) for name in TrainPart.model_fields]
            evaluate: list[KeyPath] = [("evaluate", name) for name in EvaluatePart.model_fields]
            forms.append(Form(draft, train, "train: the student's training", ascii=ascii))
            forms.append(Form(draft, evaluate, "evaluate: what is measured", ascii=ascii))
            forms.append(Form(draft, [("seed",)], "seed", ascii=ascii))
            non_finite: list[KeyPath] = [("non_finite", name) for name in NonFinitePart.model_fields]
            forms.append(Form(draft, non_finite, "non_finite: steps that come out not finite", ascii=ascii))
            self.settings.mount(*forms)
        elif forms:
            self.settings.mount(*forms, before=0)

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        if event.row == self.bench.draft.method:
            self.screen.focus_next()
            return
        self.bench.draft.choose_method(event.row)
        self.entered()
        self.post_message(DraftChanged())


class HardwareStep(Step):
    """Where it runs."""

    TITLE = "Hardware"
    HINT = "Where shall it run?"
    PARTS = ("hardware",)

    def body(self) -> ComposeResult:
        paths: list[KeyPath] = [("hardware", name) for name in HardwarePart.model_fields]
        self.form = Form(self.bench.draft, paths, ascii=self.bench.ascii)
        self.said = Static("", classes="said", markup=False)
        yield self.form
        yield Static("What there is", classes="heading", markup=False)
        yield self.said

    @property
    def first(self) -> Widget:
        return self.form.query("SettingRow .field").first()

    def entered(self) -> None:
        show_row(self, ("hardware", "workers"), self.bench.facts.from_files)
        show_row(self, ("hardware", "teachers"), bool(self.bench.machine.gpus))  # else all memory is the processor's
        self.said.update("\n".join(shown_text(line, self.bench.ascii) for line in self._lines()))

    def _lines(self) -> list[str]:
        lines = machine_lines(self.bench.machine)
        preset = self.bench.draft.preset()
        if preset is None:
            return [*lines, "", "What it needs is known once nothing is missing or wrong."]
        if not is_counted(preset.dataset):
            return [*lines, "", "What it needs is not known: the folder holds too much to be counted here."]
        guess = estimate(preset, self.bench.stock, self.bench.machine)
        need, images = size_words(guess.memory), training_images(preset.dataset)
        lines += ["", f"Roughly needed: {need} of {'GPU ' * (guess.kind == 'cuda')}memory, for {images:,} training images"]
        return [*lines, _fits(guess.memory, guess.kind, preset.hardware.device, self.bench.machine)]


def _where(facts: DatasetFacts) -> str:
    if facts.embedded:
        return "built in"
    return "your folder" if facts.own else "on this machine"


def machine_lines(machine: Machine) -> list[str]:
    """What a machine has, a line for the processor and one for each GPU."""
    memory = f", {size_words(machine.memory)} memory" if machine.memory else ""
    free = f" ({size_words(machine.free)} free)" if machine.free else ""
    lines = [f"Processor: {machine.cores} core{'s' * (machine.cores != 1)}{memory}{free}"]
    for gpu in machine.gpus:
        lines.append(
            f"GPU {gpu.index}: {gpu.name}, {size_words(gpu.total)} memory ({size_words(gpu.free)} free), as cuda:{gpu.index}"
        )
    return lines if machine.gpus else [*lines, "GPU: none seen (NVIDIA's are, where its driver and nvidia-ml-py are installed)"]


def _fits(need: int, kind: str, device: str, machine: Machine) -> str:
    if kind == "cuda":
        number = int(device.partition(":")[2] or 0) if device.startswith("cuda") else 0
        free = next((gpu.free for gpu in machine.gpus if gpu.index == number), None)
        where = f"GPU {number}"
    else:
        free, where = machine.free, "this machine"
    if free is None:
        return f"Whether {where} has so much is not known."
    if need <= free:
        return f"It fits: {where} has {size_words(free)} free."
    return f"It may not fit: {where} has {size_words(free)} free. Smaller batches need less."


def smaller(parameters: int | None, mean: float | None) -> str:
    """How a network's size compares with that of the teachers."""
    if not mean or not parameters:
        return ""
    ratio = mean / parameters
    if 0.95 <= ratio <= 1.05:
        return AS_LARGE
    times = max(ratio, 1 / ratio)
    return f"{times:.{1 if times < 99.5 else 0}f} times {'smaller' if ratio > 1 else 'LARGER'}"


def _those(teachers: int) -> str:
    return "the teacher" if teachers == 1 else f"the {teachers} teachers"


def _teachers(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more teachers" if least else "no teacher needed"
    return f"{most} teacher{'s' * (most != 1)}"
