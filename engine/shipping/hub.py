"""A folder as model hubs have them: model.safetensors, config.json and README.md; timm loads it where the network is timm's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.architectures import library_of
from engine.errors import UserError
from engine.models import Classifier
from engine.models.tapped import Tapped
from engine.shipping.facts import ModelFacts
from engine.shipping.opening import open_file
from engine.shipping.placing import write
from engine.shipping.runners import Ask, Logits, of_module
from engine.shipping.writers import as_safetensors
from engine.tensor_header import HUB_WEIGHTS
from engine.text import one_line
from engine.version import version

WEIGHTS, CONFIG, CARD = HUB_WEIGHTS, "config.json", "README.md"


def write_folder(folder: Path, model: Classifier, facts: ModelFacts) -> Ask:
    """Weights and configuration, in an empty folder; what is loaded from there again, as timm does it where it can."""
    if library_of(facts.arch)[0] == "timm":
        _timm_config(folder, model, facts)
        write(folder / WEIGHTS, as_safetensors(model, facts))
        return _by_timm(folder, model, facts)
    prepared = json.loads(facts.preprocessing.to_json())
    config = {
        "architecture": facts.arch,
        "library_name": "mmkd",
        "num_classes": len(facts.classes),
        "label_names": list(facts.classes),
        "preprocessing": prepared,
        "mmkd_version": version(),
    }
    write(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write(folder / WEIGHTS, as_safetensors(model, facts))
    return open_file(folder / WEIGHTS).ask


def _timm_config(folder: Path, model: Classifier, facts: ModelFacts) -> None:
    """config.json, by timm's own writer."""
    import timm

    assert isinstance(model, Tapped)
    prepared = facts.preprocessing
    side = model.size or prepared.size
    pretrained: dict[str, Any] = {
        "num_classes": len(facts.classes),
        "input_size": [prepared.channels, side, side],
        "fixed_input_size": True,
        "interpolation": prepared.interpolation,
        "crop_pct": round(prepared.size / prepared.resize, 6),
        "crop_mode": "center",
        "mean": list(prepared.mean),
        "std": list(prepared.std),
        **{name: value for name in ("first_conv", "classifier") if (value := model.network.pretrained_cfg.get(name))},  # type: ignore[union-attr,operator]
    }
    arguments: dict[str, Any] = {"in_chans": prepared.channels} if prepared.channels != 3 else {}
    if isinstance(sized := getattr(getattr(model.network, "patch_embed", None), "img_size", None), tuple):
        arguments["img_size"] = list(sized)
    said = {"label_names": list(facts.classes), "pretrained_cfg": pretrained, "model_args": arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            timm.models.save_for_hf(model.network, str(folder), model_config=said, safe_serialization=True)
        except Exception as error:
            raise UserError(f"timm cannot describe {facts.arch}: {one_line(str(error), 200)}; leave --hub-layout out") from error
    (folder / WEIGHTS).unlink(missing_ok=True)
    content = (folder / CONFIG).read_bytes()
    (folder / CONFIG).unlink()
    write(folder / CONFIG, content)


def _by_timm(folder: Path, model: Classifier, facts: ModelFacts) -> Ask:
    """What timm makes of a folder, with the same enlargement before it as in training."""
    import timm

    assert isinstance(model, Tapped)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:
        raise UserError(f"timm cannot load what was written of {facts.arch}: {one_line(str(error), 200)}") from error
    whole = Logits(Tapped(network, model.tap, model.size))
    return of_module(whole.eval(), torch.device("cpu"))
