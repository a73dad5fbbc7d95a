"""The wizard's page for the teachers, and the dialog for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Static

from engine.architectures import is_architecture, library_of
from engine.paths import expanded
from engine.preset import Preset, TrainPart
from engine.yaml_lines import KeyPath
from mmkd_tui.draft import Draft, Problem, missing_checkpoint
from mmkd_tui.figures import number_of, percent
from mmkd_tui.screens.ask import BACK
from mmkd_tui.stock import Network
from mmkd_tui.timm_names import trouble_with_name
from mmkd_tui.widgets.table import Column, FilterTable, Row, Table, shown_text
from mmkd_tui.wizard.form import Choice, DraftChanged, Form, show_row, tell_problems
from mmkd_tui.wizard.step import Step

FILE = "file"
SIDE_BY_SIDE = 126  # columns that both lists need


class ChosenTeachers(Vertical):
    """Those that are chosen. Enter changes one, Delete takes it out."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("d,delete,backspace", "take_out", "Take out")]
    COLUMNS = (Column("", 10, grow=True), Column("", 26))

    def __init__(self, ascii: bool) -> None:
        super().__init__(id="chosen")
        self.table = Table(self.COLUMNS, ascii=ascii)
        self.border_title = "Chosen"
        self.border_subtitle = "Enter: change  d: take out"

    def compose(self) -> ComposeResult:
        yield self.table

    def action_take_out(self) -> None:
        """Takes the teacher at the cursor out."""
        if self.table.current is not None:
            self.screen.query_one(TeachersStep).take_out(int(self.table.current))


class TeachersStep(Step):
    """Who teaches."""

    TITLE = "Teachers"
    HINT = "Who teaches? Type to filter, Enter adds; Tab goes to those you chose."
    PARTS = ("teachers",)
    COLUMNS = (
        Column("architecture", 16, grow=True),
        Column("parameters", 10, right=True, least=72, most=11),
        Column("accuracy", 8, right=True),
        Column("seed", 4),
        Column("input", 8, least=84, most=9),  # the same for all
        Column("from", 22, prose=True, most=32),
    )

    def body(self) -> ComposeResult:
        self.offers = FilterTable(self.COLUMNS, hint="type to filter", ascii=self.bench.ascii, id="offers")
        self.chosen = ChosenTeachers(self.bench.ascii)
        self._asking: Preset | None = None
        with Horizontal(id="teachers-columns"):
            yield self.offers
            yield self.chosen

    @property
    def first(self) -> Widget:
        return self.offers.filter

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < SIDE_BY_SIDE, "-stacked")

    def entered(self) -> None:
        self._asking = self._question()
        self.offers.show(
            self._offers(),
            "nothing fits the filter; shorten it, or type timm:NAME or torchvision:NAME",
            [self._to_train(name) for name in self.bench.searched],
            lambda text: self._to_train(text) if is_architecture(text) and not trouble_with_name(text) else None,
        )
        self.chosen.table.show(
            [self._row(number) for number in range(len(self.bench.draft.teachers))],
            "none yet: add two or more",
        )

    def _offers(self) -> list[Row]:
        bench = self.bench
        facts, size = bench.facts, bench.input_size
        rows = []
        for network in bench.stock.on(facts.name):
            accuracy, seed = percent(network.accuracy, 1), f"s{network.seed}"
            cells = (network.arch, bench.parameters_text(network.arch), accuracy, seed, size, self._origin(network))
            rows.append(Row(network.key, cells, mark=bench.marks.done if self._fits(network) else " "))
        rows += [self._to_train(name) for name in bench.listed]
        rows.append(Row(FILE, ("any", "", "", "", size, "a checkpoint file ...")))
        return rows

    def _to_train(self, name: str) -> Row:
        return Row(name, (name, self.bench.parameters_text(name), "", "", self.bench.input_size, "to be trained"))

    def _fits(self, network: Network) -> bool:
        """Whether a run of this draft would find it: the same images, chosen in the same way."""
        preset = self._asking
        return preset is not None and self.bench.stock.of(preset, network.arch, network.seed, network.recipe) is not None

    def _question(self) -> Preset | None:
        """The draft with no teachers and a method that needs none: what the store has is known before there are enough."""
        draft = self.bench.draft.copy()
        draft.choose_method("ce")
        draft.data["teachers"] = ()
        return draft.preset()

    def _origin(self, network: Network) -> str:
        where = "store" if self._fits(network) else other_than(self._asking, network)
        noise = f", {100 * network.recipe.label_noise:.3g} % noise" if network.recipe.label_noise else ""
        return f"{where}: {number_of(network.recipe.epochs, 'epoch')}{noise}"

    def _row(self, number: int) -> Row:
        teacher = self.bench.draft.teachers[number]
        context, marks = self._asking, self.bench.marks
        if teacher["checkpoint"] is not None:
            there = missing_checkpoint(self.bench.draft, number) is None
            said = Path(str(teacher["checkpoint"])).name + ("" if there else " (missing)")
            return Row(str(number), (str(teacher["arch"]), said), mark=marks.done if there else marks.wrong)
        if teacher["pretrained"] and teacher["train"] is None:
            return Row(str(number), (str(teacher["arch"]), "its library's weights"), mark=marks.done)
        recipe = TrainPart(**teacher["train"]) if teacher["train"] else TrainPart()
        found = self.bench.stock.of(context, teacher["arch"], teacher["seed"], recipe, teacher["pretrained"]) if context else None
        said = f"{percent(found.accuracy, 1)}, in the store" if found else f"to be trained, {number_of(recipe.epochs, 'epoch')}"
        return Row(str(number), (f"{teacher['arch']}-s{teacher['seed']}", said), mark=marks.done if found else marks.free)

    @on(Table.Chosen)
    def _pressed(self, event: Table.Chosen) -> None:
        event.stop()
        if event.table is self.chosen.table:
            self._change(int(event.row), self.bench.draft.copy(), "Change a teacher")
        elif event.row == FILE:
            draft = self.bench.draft.copy()
            self._change(draft.add_checkpoint("", ""), draft, "A teacher from a checkpoint file")
        else:
            self._add(event.row)

    def _add(self, offer: str) -> None:
        """A network of the store, once; one to be trained, as often as one likes, each time with another seed."""
        draft, network = self.bench.draft, self.bench.stock.with_key(offer)
        if network is None:
            draft.add_teacher(offer)
        elif any(draft.is_teacher(number, network.arch, network.seed, network.recipe) for number in range(len(draft.teachers))):
            self.notify(f"{network.arch}-s{network.seed} is among the chosen ones already", markup=False)
        else:
            draft.add_teacher(network.arch, network.seed, network.recipe)
        self._changed()

    def _change(self, number: int, draft: Draft, title: str) -> None:
        def done(changed: Draft | None) -> None:
            if changed is not None:
                self.bench.draft.data = self.bench.draft.data | {"teachers": changed.data["teachers"]}
                self._changed()

        self.app.push_screen(TeacherScreen(draft, number, title, ascii=self.bench.ascii), done)

    def take_out(self, number: int) -> None:
        """One fewer."""
        self.bench.draft.remove_teacher(number)
        self._changed()

    def _changed(self) -> None:
        self.entered()
        self.post_message(DraftChanged())


class FurtherRow(Vertical):
    """Whether a network that begins with its library's weights is trained."""

    def __init__(self, further: bool, *, ascii: bool = False) -> None:
        super().__init__(classes="setting")
        self.editor = Choice(("recipe", "null"), "recipe" if further else "null", ascii=ascii, classes="field")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static("train", classes="label", markup=False)
            yield self.editor
            yield Static("recipe: trained further, as said below; null: as its library has it", classes="meaning", markup=False)


def other_than(preset: Preset | None, network: Network) -> str:
    """In what a network of the store is another than a run of `preset` would train; None: that is not known yet."""
    if preset is None:
        return "store"
    wanted, stored = preset.anchored(Path.cwd()).dataset, network.dataset
    if wanted.path != stored.path:
        return "other folder"
    if wanted.size != stored.size:
        return "other size"
    split = ("validation_fraction", "train_images", "split_seed")
    same = all(getattr(wanted, name) == getattr(stored, name) for name in split)
    return "other settings" if same else "other split"


class TeacherScreen(ModalScreen[Draft | None]):
    """One teacher's settings, on a copy of the draft; the copy is the answer, None where it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(BACK), "dismiss(None)", "Cancel", priority=True),
        Binding("ctrl+s,ctrl+n", "accept", "OK", priority=True),
    ]

    def __init__(self, draft: Draft, number: int, title: str, *, ascii: bool = False) -> None:
        super().__init__()
        self._title, self._ascii = title, ascii
        self._here: KeyPath = ("teachers", number)
        self._from_file = draft.teachers[number]["checkpoint"] == ""  # it is to be one
        published = draft.teachers[number]["pretrained"] and draft.teachers[number]["train"] is None
        self._further = FurtherRow(not published, ascii=ascii)
        draft.spell_recipe(number)
        self._draft, self._number = draft, number

    def compose(self) -> ComposeResult:
        draft, here, ascii = self._draft, self._here, self._ascii
        with Vertical(classes="" if self._from_file else "-recipe"):
            yield Static(self._title, classes="title", markup=False)
            with VerticalScroll(can_focus=False):
                if self._from_file:
                    yield Form(draft, [(*here, name) for name in ("arch", "checkpoint", "features")], ascii=ascii)
                else:
                    names = ("arch", "seed", "checkpoint", "pretrained")
                    yield Form(draft, [(*here, name) for name in names], ascii=ascii)
                    with Form(draft, []):
                        yield self._further
                    with Vertical(id="recipe"):
                        recipe = [(*here, "train", name) for name in TrainPart.model_fields]
                        yield Form(draft, recipe, "train: its recipe", ascii=ascii)
                    yield Form(draft, [(*here, "features")], "its feature map", ascii=ascii)
            yield Static("", classes="problem", id="other-problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button(" OK ", name="ok", compact=True)
                yield Button(" Cancel ", name="cancel", compact=True)
                yield Static("Ctrl+S: OK   Esc: cancel", classes="keys", markup=False)

    def on_mount(self) -> None:
        if not self._from_file:
            self._changed()

    @property
    def _given(self) -> bool:
        """Whether its fields say that it needs no training."""
        teacher = self._draft.teachers[self._number]
        return teacher["checkpoint"] is not None or (teacher["pretrained"] is True and self._further.editor.value == "null")

    def _meant(self) -> Draft:
        """The draft as the fields mean it: a teacher that is given has no recipe, one from a file has a file."""
        draft = self._draft.copy()
        if self._from_file and draft.value((*self._here, "checkpoint")) is None:
            draft.change_teacher(self._number, checkpoint="")
        if self._from_file or self._given:
            draft.change_teacher(self._number, train=None)
        return draft

    @on(DraftChanged)
    @on(Choice.Changed)
    def _changed(self) -> None:
        if not self._from_file:
            self._arrange()
        self._tell(self._meant())

    def _arrange(self) -> None:
        """Shows the settings that say something now."""
        teacher = self._draft.teachers[self._number]
        pretrained = teacher["pretrained"] is True
        published = library_of(str(teacher["arch"]))[0] in ("torchvision", "timm") and teacher["checkpoint"] is None
        show_row(self, (*self._here, "seed"), not self._given)
        show_row(self, (*self._here, "pretrained"), published or pretrained)
        self._further.display = published and pretrained
        self.query_one("#recipe").display = not self._given

    def _tell(self, draft: Draft, missing: Problem | None = None) -> bool:
        """Shows what is wrong with this teacher; whether anything is."""
        mine = [problem for problem in draft.problems() if problem.path[:2] == self._here]
        mine += [missing] if missing else []
        left = tell_problems(self, mine)
        self.query_one("#other-problem", Static).update("\n".join(shown_text(one.sentence, self._ascii) for one in left[:2]))
        return bool(mine)

    def action_accept(self) -> None:
        """Takes it over, unless something is wrong."""
        draft = self._meant()
        if path := draft.value((*self._here, "checkpoint")):
            draft.change_teacher(self._number, checkpoint=str(expanded(path).absolute()))
        if not self._tell(draft, missing_checkpoint(draft, self._number)):
            self.dismiss(draft)

    @on(Button.Pressed)
    def _button(self, event: Button.Pressed) -> None:
        if event.button.name == "ok":
            self.action_accept()
        else:
            self.dismiss(None)
