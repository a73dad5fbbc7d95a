"""Architectures of a user's own: registered by a file that the command line names, recorded, and asked for again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.hosts import Watched, no_process_left
from support.presets import tiny

from engine import plugins
from engine.architectures import architecture_of, identity, is_architecture
from engine.control import Control
from engine.errors import PresetError, UserError
from engine.models import build_model
from engine.preset import StudentPart
from engine.preset_yaml import dump_preset
from engine.run import Run
from engine.run_dir import RunDir
from engine.run_state import RunState
from engine.spawning import respawn, spawn
from engine.teachers.foreign import sketch
from mmkd_tui.cli.main import run_command

FILE = """
import engine
from torch import nn


class Mine(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.pool(self.body(x)).flatten(1))


engine.register_architecture("mine", Mine)
"""


NETWORKS = """
import sys

import engine
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, outputs):
        super().__init__()
        self.body, self.fc = nn.Conv2d(channels, 8, 3, padding=1), nn.Linear(8, outputs)

    def forward(self, x):
        return self.fc(self.body(x).relu().mean((2, 3)))


class Own(engine.Classifier):
    def __init__(self, channels, outputs, promised=8):
        super().__init__()
        self.body, self.fc = nn.Conv2d(channels, 8, 3, padding=1), nn.Linear(8, outputs)
        if promised:
            self.feature_channels = promised

    def features(self, x):
        return self.body(x).relu()

    def head(self, pooled):
        return self.fc(pooled)


class Flat(Own):
    def forward(self, x):
        pooled = self.features(x).mean((2, 3))
        return engine.Output(self.head(pooled), pooled)


class Bare(Own):
    def forward(self, x):
        return self.classify(self.features(x))
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    plugins.forget()
    yield
    plugins.forget()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_models.py"
    path.write_text(FILE)
    return path


def test_a_registered_architecture_is_like_any_other(file: Path) -> None:
    assert not is_architecture("mine")
    plugin = plugins.load_plugin(file)
    assert plugin.sha256 == hashlib.sha256(FILE.encode()).hexdigest()
    assert StudentPart(arch="mine").arch == "mine"
    assert architecture_of("mine").parameters is None
    assert identity("mine") == f"mine@{plugin.sha256}"  # other code is another network, for the store
    model = build_model("mine", 1, 10, 0, size=8)
    again = build_model("mine", 1, 10, 0, size=8)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    logits, features = model(torch.randn(2, 1, 8, 8))
    assert (logits.shape, features.shape, model.feature_channels) == ((2, 10), (2, 8, 4, 4), 8)
    assert features.min() == 0  # after the activation


def test_a_table_takes_the_file_that_its_own_message_asks_for(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\npresets: [quickstart]\nmethods: [{name: aver}]\nseeds: [0]\n")
    command = ["table", "mine.yaml", "--report-only", "--set", "student.arch=mine"]
    assert run_command(command) == 2
    assert "needs --plugin FILE" in capfd.readouterr().err
    assert run_command([*command, "--plugin", str(file)]) == 0
    assert "mine; the best epoch" in capfd.readouterr().out.replace("\n", " ")


def test_without_the_file_the_preset_says_what_is_missing() -> None:
    with pytest.raises(PresetError, match=r"there is no architecture .*mine.* \(one of your own needs --plugin FILE\)"):
        tiny("student.arch=mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\n", "registers nothing"),
        ("\n\nraise ValueError('no \\x1b[31m')\n", r"my_models.py:3: ValueError: no .*; mend the file"),
        ("import sys\n\nsys.exit(0)\n", r"my_models.py:3: it ends the process when it is loaded .* if __name__ == '__main__'$"),
        ("raise SystemExit('no \x1b[31m')\n", r"my_models.py:1: it ends the process when it is loaded"),
        ("def (:\n", r"my_models.py:1: SyntaxError"),
        ("import engine\nengine.register_architecture('resnet8', print)\n", "there is an architecture resnet8 already"),
        ("import engine\nengine.register_architecture('a:b', print)\n", "'a:b' cannot name an architecture"),
        ("import engine\nengine.register_architecture('a', 3)\n", "the builder of a cannot be called"),
    ],
)
def test_a_file_that_cannot_be_used(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        plugins.load_plugin(tmp_path / "my_models.py")
    assert str(caught.value).isprintable()


def test_a_file_that_ends_the_process_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.py").write_text("import sys\nsys.exit(0)\n")
    assert run_command(["presets", "check", "quickstart", "--plugin", str(tmp_path / "p.py")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "it ends the process when it is loaded" in err


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--plugin .*nowhere.py cannot be read: No such file"):
        plugins.load_plugin(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ("lambda channels, classes: 3", "its builder gave a int, not a torch.nn.Module"),
        ("lambda channels, classes: 1 / 0", "cannot be built for 1 channels, 10 classes, 8 x 8 pixels: ZeroDivisionError"),
        ("lambda channels, classes: sys.exit(0)", "cannot be built for 1 channels, 10 classes, 8 x 8 pixels: SystemExit"),
        ("lambda channels, classes: nn.Flatten()", "its last feature map is not found"),
        ("lambda channels, classes: nn.Conv2d(channels, 4, 3)", "does not give logits"),
        (
            "lambda channels, classes: Net(channels, 32)",
            "it gives 32 logits where the data set has 10 classes; give its last layer",
        ),
        ("lambda channels, classes: Net(channels, 3)", "it gives 3 logits where the data set has 10 classes"),
        ("lambda channels, classes: Own(channels, 32)", "it gives 32 logits where the data set has 10 classes"),
        ("lambda channels, classes: Own(channels, classes, 4)", r"its feature map is \[2, 8, 8, 8\] .* feature_channels are 4"),
        ("lambda channels, classes: Own(channels, classes, None)", "its feature_channels are None"),
        ("lambda channels, classes: Flat(channels, classes)", r"its feature map is \[2, 8\] for 2 images"),
        ("lambda channels, classes: Bare(channels, classes)", "it gives a Tensor, not an engine.Output"),
    ],
)
def test_a_builder_that_fails(builder: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(f"{NETWORKS}\nengine.register_architecture('bad', {builder})\n")
    plugins.load_plugin(tmp_path / "p.py")
    with pytest.raises(UserError, match=f"^bad: .*{message}"):
        build_model("bad", 1, 10, size=8)


@pytest.mark.parametrize(
    "changes", [("student.arch=bad",), ("teachers.1.arch=bad",), ("teachers.1.arch=bad", "only_teachers=true")]
)
def test_wrong_outputs_are_told_before_anything_is_trained(
    changes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.py").write_text(f"{NETWORKS}\nengine.register_architecture('bad', lambda channels, classes: Net(channels, 32))\n")
    plugins.load_plugin(Path("p.py"))
    preset = tiny(*changes)
    result = Run(preset, tmp_path / "one", store=tmp_path / "store").execute()
    assert (result.state, result.mistake) == ("failed", True)
    assert result.message.startswith("bad: it gives 32 logits where the data set has 10 classes; ")
    assert not (tmp_path / "one").exists()
    assert not (tmp_path / "store").exists()
    Path("bad.yaml").write_text(dump_preset(preset))
    assert run_command(["presets", "check", "bad.yaml", "--plugin", "p.py"]) == 2
    assert capsys.readouterr().err == f"mmkd: {result.message}\n"


def test_a_network_that_computes_with_numbers_is_no_misfit_where_a_sketch_has_none(tmp_path: Path) -> None:
    content = (
        NETWORKS
        + """
class Reads(Own):
    def features(self, x):
        return self.body(x) * (1 + x.abs().max().item())


engine.register_architecture("reads", Reads)
"""
    )
    (tmp_path / "p.py").write_text(content)
    plugins.load_plugin(tmp_path / "p.py")
    assert sketch(lambda: build_model("reads", 1, 10, size=8)).feature_channels == 8


def test_nothing_random_in_a_training_pass(tmp_path: Path) -> None:
    """As in the libraries' networks."""
    content = f"""{NETWORKS}
class Drops(Net):
    def __init__(self, channels, outputs):
        super().__init__(channels, outputs)
        self.body = nn.Sequential(self.body, nn.Dropout2d(0.5))
        self.fc = nn.Sequential(nn.Dropout(0.5), self.fc)
        self.rows = nn.LSTM(8, 8, 2, batch_first=True, dropout=0.5)

    def forward(self, x):
        x = self.body(x)
        return self.fc(x.mean((2, 3)) + self.rows(x.mean(3).transpose(1, 2))[0].mean(1))


class OwnDrops(Own):
    def __init__(self, channels, outputs):
        super().__init__(channels, outputs)
        self.body = nn.Sequential(self.body, nn.Dropout(0.5))


engine.register_architecture("drops", Drops)
engine.register_architecture("own-drops", OwnDrops)
"""
    (tmp_path / "p.py").write_text(content)
    plugins.load_plugin(tmp_path / "p.py")
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in ("drops", "own-drops"):
        model = build_model(name, 1, 10, size=8).train()
        with torch.no_grad():
            assert torch.equal(model(images).logits, model(images).logits)


def test_a_network_of_ones_own_base_class_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(f"{NETWORKS}\nengine.register_architecture('own', Own)\n")
    plugins.load_plugin(tmp_path / "p.py")
    model = build_model("own", 1, 10, size=8)
    assert type(model).__name__ == "Own"
    assert model.training


def test_a_run_records_it_and_resuming_asks_for_it(file: Path, tmp_path: Path) -> None:
    plugins.load_plugin(file)
    preset = tiny("student.arch=mine", "evaluate.student_alone=false", "train.epochs=2")
    control = Control()
    folder = tmp_path / "runs" / "one"
    run = Run(preset, folder, control=control)
    run.subscribe(lambda event: control.stop() if event.kind == "epoch_ended" and event.phase == "distil" else None)
    assert run.execute().state == "stopped"
    digest = hashlib.sha256(FILE.encode()).hexdigest()
    assert json.loads((folder / "meta.json").read_text())["plugins"] == [{"path": str(file), "sha256": digest}]

    plugins.forget()
    with pytest.raises(UserError, match=rf"plugin {file}, which is not loaded; mmkd resume one --plugin {file} goes on"):
        respawn(folder)
    file.write_text(FILE + "\n# changed\n")
    plugins.load_plugin(file)
    with pytest.raises(UserError, match="has changed since this run was started"):
        respawn(folder)
    plugins.forget()
    file.write_text(FILE)
    with no_process_left(tmp_path / "runs"):
        assert run_command(["resume", "one", "--runs-dir", str(tmp_path / "runs"), "--plugin", str(file), "--no-wait"]) == 0
        Watched(folder).wait_for_state(RunState.FINISHED)


def test_a_spawned_run_has_it(file: Path, tmp_path: Path) -> None:
    plugins.load_plugin(file)
    preset = tiny("student.arch=mine", "evaluate.student_alone=false", "train.epochs=1", "method={name: ce}", "teachers=[]")
    with no_process_left(tmp_path / "runs"):
        path = spawn(preset, tmp_path / "runs")
        Watched(path).wait_for_state(RunState.FINISHED)
    assert json.loads((path / "result.json").read_text())["state"] == "done"


def ended_run(name: str, preset: str) -> None:
    run = RunDir(Path("runs") / name)
    run.path.mkdir(parents=True)
    run.preset.write_text(preset)
    run.lock.touch()


def test_runs_with_a_teacher_of_a_plugin_are_looked_at_without_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins.load_plugin(file)
    for name, teacher in (("one", "mine"), ("other", "resnet14")):
        ended_run(name, dump_preset(tiny(f"teachers.1.arch={teacher}")))
    plugins.forget()
    assert run_command(["compare", "one", "other"]) == 0
    assert "teachers.1.arch" in capsys.readouterr().out
    assert run_command(["runs", "show", "one"]) == 0
    assert "arch: mine" in capsys.readouterr().out


def test_what_is_no_name_of_an_architecture_is_none_in_a_run_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "other"):
        ended_run(name, dump_preset(tiny()).replace("arch: resnet14", "arch: os.system()"))
    assert run_command(["compare", "one", "other"]) == 2
    assert "teachers.1.arch: there is no architecture 'os.system()'" in capsys.readouterr().err


def test_a_student_leaves_without_the_plugin_of_its_teachers(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins.load_plugin(file)
    shorter = ("method={name: kd}", "teachers=[{arch: mine, train: {epochs: 1, batch_size: 32}}]", "train.epochs=1")
    preset = tiny(*shorter, "evaluate={student_alone: false, accept_weak_teachers: true}")
    assert Run(preset, tmp_path / "runs" / "one").execute().state == "done"
    plugins.forget()
    assert run_command(["export", "one", "--format", "safetensors"]) == 0
    card = Path("runs/one/export/student.safetensors.md").read_text()
    assert "\nmmkd run preset.yaml --plugin my_models.py\nmmkd export tiny --format safetensors\n" in card
    assert "load_plugin" not in card
    assert run_command(["evaluate", "one"]) == 0
    assert f"teacher mine-s0 is not at hand: there is no architecture mine; the run was started with --plugin {file}" in (
        capsys.readouterr().err
    )


def test_a_student_of_a_plugin_asks_for_the_file_that_its_run_recorded(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugins.load_plugin(file)
    preset = tiny("student.arch=mine", "evaluate.student_alone=false", "train.epochs=1", "method={name: ce}", "teachers=[]")
    assert Run(preset, tmp_path / "runs" / "one").execute().state == "done"
    plugins.forget()
    command = ["export", "one", "--format", "safetensors"]
    assert run_command(command) == 2
    assert f"no architecture mine; the run was started with --plugin {file}: give that here" in capsys.readouterr().err
    assert run_command([*command, "--plugin", str(file)]) == 0
    capsys.readouterr()
    assert run_command(["report", "one", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["reproduce"][1].startswith(f"mmkd run preset.yaml --plugin {file} ")
    card = Path("runs/one/export/student.safetensors.md").read_text()
    assert "\nmmkd run preset.yaml --plugin my_models.py\nmmkd export tiny --format safetensors --plugin my_models.py\n" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    plugins.forget()
    monkeypatch.chdir("runs/one/export")
    Image.new("L", (8, 8)).save("picture.png")
    with pytest.raises(UserError, match=r"my_models.py cannot be read"):
        exec(code, {})  # noqa: S102
    Path("my_models.py").write_text(FILE)
    exec(code, {})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == 1
