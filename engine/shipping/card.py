"""The model card beside an exported file: what it is, how good, how to use it and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.architectures import library_of
from engine.catalog import DATASETS, METHODS
from engine.plugins import Plugin, as_options
from engine.preset import Preset
from engine.preset_yaml import dump_preset
from engine.shipping.facts import ModelFacts
from engine.shipping.proof import BATCH, Proof
from engine.text import md, one_line, plain

MOST_NAMED = 200  # classes
PAPER = "https://arxiv.org/abs/2306.06634"
LIBRARIES = {"onnx": "onnx", "torch-export": "pytorch", "safetensors": "mmkd", "timm": "timm"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a card tells. `kind`: a format, or "timm" for a folder that timm loads."""

    file: str  # the name of the file or of the folder
    kind: str
    facts: ModelFacts
    preset: Preset
    parameters: int
    proof: Proof
    result: Mapping[str, Any] | None  # of the run, as engine.result reads it; None where it has not ended
    versions: Mapping[str, str]
    int8: str = ""  # how it was quantised
    plugins: tuple[Plugin, ...] = ()  # that the run was started with
    hub: bool = False  # whether it is a folder's card
    enlarged: int | None = None  # pixels along a side to which the images are brought before timm's network takes them


def card(shown: Shown) -> str:
    """Markdown with front matter as the Hugging Face Hub reads it."""
    preset, facts = shown.preset, shown.facts
    title = f"{preset.name}: {facts.arch}" + (" in int8" if shown.int8 else "")
    parts = [
        f"---\n{yaml.safe_dump(_front(shown), sort_keys=False, allow_unicode=False)}---",
        f"# {_md(title)}",
        _what(shown),
        "## In and out",
        *_in_and_out(shown),
        "## How good it is",
        *_accuracies(shown),
        "## Use it",
        f"```python\n{use(shown.kind, shown.file, facts, shown.enlarged, _plugins_of_student(shown))}```",
        "## Make it again",
        f"```sh\nmmkd run preset.yaml{as_options(shown.plugins, names=True)}\n{_export_command(shown)}\n```",
        "with this `preset.yaml`" + _files_note(shown) + ":",
        f"```yaml\n{dump_preset(_without_folders(preset), brief=True)}```",
        "Made with " + ", ".join(f"{_md(name)} {_md(value)}" for name, value in shown.versions.items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _front(shown: Shown) -> dict[str, Any]:
    facts = shown.facts
    accuracy = {"type": "accuracy", "name": "top-1 accuracy", "value": round(shown.proof.accuracy, 4)}
    dataset = {"type": one_line(facts.dataset, 100), "name": _title(facts.dataset), "split": "test"}
    tags = ["image-classification", "knowledge-distillation", "multi-teacher-distillation", "mmkd"]
    tags += [shown.kind] if shown.kind not in tags else []
    return {
        "library_name": LIBRARIES[shown.kind],
        "pipeline_tag": "image-classification",
        "tags": tags + ["int8"] * bool(shown.int8),
        "datasets": [dataset["type"]],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": shown.preset.name,
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": dataset,
                        "metrics": [accuracy],
                    }
                ],
            }
        ],
    }


def _title(dataset: str) -> str:
    known = DATASETS.get(dataset)
    return known.title if known else one_line(dataset, 100)


def _what(shown: Shown) -> str:
    preset, facts = shown.preset, shown.facts
    method = METHODS[preset.method.name]
    taught = f", distilled from {len(preset.teachers)} teachers by {method.title}: {method.summary}" if preset.teachers else ""
    if preset.method.name == "ce":
        taught = ", trained on the labels alone"
    if preset.method.name == "mmkd":
        taught += f" ([Zhang, Chen, Wang, ICME 2023]({PAPER}))"
    said = f"A {_md(facts.arch)} with {shown.parameters:,} parameters for {_md(_title(facts.dataset))}{taught}."
    return said + (f" Quantised to int8 ({shown.int8}) by onnxruntime." if shown.int8 else "")


def _in_and_out(shown: Shown) -> list[str]:
    facts, prepared = shown.facts, shown.facts.preprocessing
    shape = f"[batch, {prepared.channels}, {prepared.size}, {prepared.size}]"
    side = shown.enlarged
    more = f" timm's network takes them brought to {side}x{side} pixels, bilinearly, as in the training." if side else ""
    lines = [
        f"* In: `images`, {shape} in float32; a picture is brought to {prepared.words()}.{more}",
        f"* Out: `logits`, [batch, {len(facts.classes)}]; softmax makes probabilities of them.",
    ]
    if len(facts.classes) <= MOST_NAMED:
        lines.append("* Classes: " + ", ".join(f"{number} {_md(name)}" for number, name in enumerate(facts.classes)) + ".")
    return ["\n".join(lines)]


def _accuracies(shown: Shown) -> list[str]:
    proof, result = shown.proof, shown.result or {}
    rows = [
        (f"teacher {_md(t['name'])}", _percent(t["accuracy"]), _percent(t["logit_weight"]), _percent(t["feature_weight"]))
        for t in result.get("teachers", ())
    ]
    for label, name in (
        ("plain average of the teachers", "ensemble_accuracy"),
        ("student without teachers", "student_alone_accuracy"),
    ):
        if result.get(name) is not None:
            rows.append((label, _percent(result[name]), "", ""))
    rows.append(("student, as trained", _percent(result.get("student_accuracy") or proof.student_accuracy), "", ""))
    rows.append((f"**{_md(shown.file)}**", f"**{_percent(proof.accuracy)}**", "", ""))
    table = ["| network | test accuracy | logit weight | feature weight |", "| --- | ---: | ---: | ---: |"]
    table += [f"| {' | '.join(row)} |" for row in rows]
    chosen = "the test split, too" if shown.preset.evaluate.select_on == "test" else "a validation split"
    how = (
        f"This file was run on {proof.images:,} test images after it was written: its logits differ by at most "
        f"{proof.difference:.1e} from the student's in PyTorch (whose largest is {proof.largest:.1f}), and "
        f"{proof.same_class:.2%} of the images get the same class. One image takes {proof.latency.single:.2f} ms, "
        f"{BATCH} take {proof.latency.batch:.2f} ms (PyTorch: {proof.student_latency.single:.2f} and "
        f"{proof.student_latency.batch:.2f}; median, CPU, {proof.threads} thread{'s' if proof.threads > 1 else ''}). "
        f"The best epoch was chosen on {chosen}."
    )
    return ["\n".join(table), how]


def use(kind: str, file: str, facts: ModelFacts, enlarged: int | None = None, plugins: Sequence[Plugin] = ()) -> str:
    """A few lines of Python that run as they stand, where `picture.png` is, and the `plugins` that the network is of.

    `enlarged`: see Shown.
    """
    name, tensor = repr(one_line(file, 200)), "torch.from_numpy(images)"
    if enlarged:
        tensor = f'F.interpolate({tensor}, ({enlarged}, {enlarged}), mode="bilinear")'
    if kind == "safetensors":
        return (
            "from pathlib import Path\n\n"
            + "from engine import load_plugin\n" * bool(plugins)
            + "from engine.shipping import open_file  # pip install mmkd-tui\n\n"
            + "".join(f"load_plugin(Path({plain(plugin.path.name)!r}))\n" for plugin in plugins)
            + f"model = open_file(Path({name}))\n"
            'for seen in model.predict([Path("picture.png")]):\n'
            "    print(seen.top)  # (number, class, probability), the likeliest first\n"
        )
    loads = {
        "onnx": (
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({name})\nsaid = session.get_modelmeta().custom_metadata_map",
            'session.run(["logits"], {"images": images})[0][0]',
        ),
        "torch-export": (
            "import torch",
            f'extra = {{"mmkd.json": ""}}\nmodel = torch.export.load({name}, extra_files=extra).module()\n'
            'said = json.loads(extra["mmkd.json"])',
            "model(torch.from_numpy(images))[0].detach().numpy()",
        ),
        "timm": (
            "import timm\nimport torch\n"
            + "import torch.nn.functional as F\n" * bool(enlarged)
            + "from safetensors import safe_open",
            'folder = "."  # this one\nmodel = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()\n'
            'said = safe_open(f"{folder}/model.safetensors", "pt").metadata()',
            f"model({tensor})[0].detach().numpy()",
        ),
    }
    imports, load, ask = loads[kind]
    mode = "L" if facts.preprocessing.channels == 1 else "RGB"
    return f"""import json

import numpy as np
{imports}
from PIL import Image

{load}
how, classes = json.loads(said["preprocessing"]), json.loads(said["classes"])

picture = Image.open("picture.png").convert("RGB").convert("{mode}")
if picture.size != (how["size"], how["size"]) or how["resize"] != how["size"]:
    short = min(picture.size)
    picture = picture.resize([how["resize"] * side // short for side in picture.size], Image.Resampling.BILINEAR)
    left, top = (round((side - how["size"]) / 2) for side in picture.size)
    picture = picture.crop((left, top, left + how["size"], top + how["size"]))
pixels = np.asarray(picture, np.float32).reshape(how["size"], how["size"], -1).transpose(2, 0, 1) / 255
mean, std = (np.reshape(how[name], (-1, 1, 1)) for name in ("mean", "std"))
images = ((pixels - mean) / std).astype(np.float32)[None]

logits = {ask}
probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
for number in probabilities.argsort()[::-1][:5]:
    print(f"{{probabilities[number]:7.2%}}  {{classes[number]}}")
"""


def _export_command(shown: Shown) -> str:
    more = (" --quantize int8" if shown.int8 else "") + as_options(_plugins_of_student(shown), names=True)
    if shown.hub:
        return f"mmkd export {shown.preset.name} --hub-layout {shown.preset.name}-hub{more}"
    return f"mmkd export {shown.preset.name} --format {shown.kind}{more}"


def _plugins_of_student(shown: Shown) -> tuple[Plugin, ...]:
    """Without which its network cannot be built."""
    return shown.plugins if library_of(shown.facts.arch)[0] == "plugin" else ()


def _without_folders(preset: Preset) -> Preset:
    """Where files lay on the machine that trained is nobody else's business, nor of use to them."""
    teachers: Sequence[Any] = [
        t if t.checkpoint is None else t.model_copy(update={"checkpoint": Path(t.checkpoint).name}) for t in preset.teachers
    ]
    dataset = preset.dataset
    if dataset.path is not None:
        dataset = dataset.model_copy(update={"path": Path(dataset.path).name})
    return preset.model_copy(update={"teachers": tuple(teachers), "dataset": dataset})


def _files_note(shown: Shown) -> str:
    return " (its files beside it)" if shown.plugins or shown.preset != _without_folders(shown.preset) else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _md(text: str) -> str:
    return md(text, 200)  # a name that is longer says no more
