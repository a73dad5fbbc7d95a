"""Checkpoints of other programs as teachers: names are matched to the architecture, and all that does not fit is told at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from engine.dataset_facts import IMAGENET, Normalisation
from engine.errors import UserError
from engine.models import Classifier
from engine.models.library import present_name, published_normalisation
from engine.models.tapped import AFFINE, Tapped
from engine.teachers.weights_file import Contents, outline_of, read_tensors
from engine.text import one_line

# What wraps a network puts its own name before all others: DataParallel, torch.compile, trainers.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "student.", "encoder.")
# The last linear layer, and shortcuts that change the shape, have several names in the field.
_HEADS = ("fc", "linear", "classifier", "classifier.0", "head", "head.fc")
_SHORTCUTS = ("downsample", "shortcut", "convShortcut", "conv_shortcut")
# What a network knows of each patch's place in the image.
_PLACES = ("pos_embed", "pos_embedding")
# Channels of images, grey and in colour: where one network's kernel takes 1 and the other's 3, it is their first.
_CHANNELS = {1, 3}
# Networks' parts that serve their training alone.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a file's tensors and an architecture's go together; names are the architecture's, but for `unknown`."""

    tensors: dict[str, Tensor] = field(repr=False)  # those that fit, under the architecture's names
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]  # name, in the file, in the architecture
    renamed: tuple[tuple[str, str], ...]  # in the file, in the architecture
    beside: tuple[str, ...] = ()  # in the file; no part of the network, and left out

    @property
    def whole(self) -> bool:
        """Whether everything fits."""
        return not (self.missing or self.unknown or self.shapes)

    def sentence(self) -> str:
        """What does not, on one line; names from files are made harmless."""
        differing = tuple(f"{name} is {there}, not {here}" for name, there, here in self.shapes)
        parts = [
            f"{len(names)} {what} ({one_line(', '.join(names[:3]), 200)}{', ...' if len(names) > 3 else ''})"
            for names, what in (
                (self.missing, "tensors missing"),
                (self.unknown, "tensors too many"),
                (differing, "shapes that differ"),
            )
            if names
        ]
        return "; ".join(parts)

    def left_out(self) -> str:
        """What is no part of the network, on one line; nothing where all is."""
        count = len(self.beside)
        if not count:
            return ""
        names = one_line(", ".join(self.beside[:3]), 200) + (", ..." if count > 3 else "")
        return f"{count} tensor{'s' * (count > 1)} beside the network {'are' if count > 1 else 'is'} left out ({names})"


def fit_to(model: Classifier, state: Mapping[str, Tensor]) -> Fit:
    """As `fit`, for the tensors of `model`; what mmkd keeps beside a network's own is one of them where the file has it."""
    return fit(_names(model, state), state)


def _names(model: Classifier, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own: dict[str, Tensor] = model.state_dict()
    if AFFINE in state and isinstance(model, Tapped) and model.example is not None:
        return own | {AFFINE: torch.empty(2, model.example[0], 1, 1, device="meta")}
    return own


def fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Fit:
    """A file's tensors for an architecture with the tensors `own`, whose numbers are not looked at (they may be on "meta")."""
    # AveragedModel (EMA, SWA) counts its averages beside the network.
    names = _unwrapped(own, {name: name for name in state if name != "n_averaged" or name in own})
    found = _fit(own, state, names)
    return (_in_trainer(own, state, names) if found.missing else None) or found


def _in_trainer(own: Mapping[str, Tensor], state: Mapping[str, Tensor], names: Mapping[str, str]) -> Fit | None:
    """The network under the one name under which all of it is found, where a trainer has saved other parts beside it: its
    loss's, say. None where there is no such name, or more than one: nobody knows then which network is meant.
    """
    parts: dict[str, dict[str, str]] = {}
    for theirs, name in names.items():
        first, dot, rest = name.partition(".")
        parts.setdefault(first + dot, {})[theirs] = rest
    least = sum(not _optional(name) for name in own)
    fits = {
        part: _fit(own, state, _unwrapped(own, inner))
        for part, inner in parts.items()
        if part[-1:] == "." and len(inner) >= least
    }
    whole = [part for part, found in fits.items() if not found.missing]
    if len(whole) != 1 or whole[0] not in _PREFIXES:
        return None
    beside = tuple(theirs for theirs in names if theirs not in parts[whole[0]])
    return replace(fits[whole[0]], beside=beside)


def _unwrapped(own: Mapping[str, Tensor], names: dict[str, str]) -> dict[str, str]:
    """Names in the file -> as they are compared, without what stands before all of them."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if names and all(n.startswith(prefix) for n in names.values()) and not all(n.startswith(prefix) for n in own):
                names = {theirs: n.removeprefix(prefix) for theirs, n in names.items()}
                stripped = True
    return names


def _fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], unwrapped: Mapping[str, str]) -> Fit:
    names = dict(unwrapped)
    taken = set(names.values())
    for theirs, name in names.items():
        names[theirs] = _known_as(name, own, taken)
        taken.add(names[theirs])
    names = {t: n for t, n in names.items() if n in own or not n.startswith(_AUXILIARY)}
    there = {name: state[theirs] for theirs, name in names.items()}
    shapes = tuple(
        (name, tuple(there[name].shape), tuple(value.shape))
        for name, value in own.items()
        if name in there and there[name].shape != value.shape
    )
    return Fit(
        tensors={name: value for name, value in there.items() if name in own},
        missing=tuple(sorted(name for name in own.keys() - there.keys() if not _optional(name))),
        unknown=tuple(sorted(there.keys() - own.keys())),
        shapes=shapes,
        renamed=tuple((theirs, name) for theirs, name in names.items() if theirs != name and name in own),
    )


def _optional(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _known_as(name: str, own: Mapping[str, Tensor], taken: set[str]) -> str:
    """The architecture's name for a tensor that goes by another one in the field; the same name where it has none."""
    if name in own:
        return name
    module, _, kind = name.rpartition(".")
    candidates = [present_name(name), *(f"{head}.{kind}" for head in _HEADS if module in _HEADS)]
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part in _SHORTCUTS:
            candidates += [".".join([*parts[:place], other, *parts[place + 1 :]]) for other in _SHORTCUTS]
    return next((c for c in candidates if c in own and c not in taken), name)


def unsaid(arch: str, here: Normalisation, state: Collection[str]) -> str:
    """What has to be known of a checkpoint whose images may have been normalised otherwise than `here`, on one line; nothing
    where the field has but one habit, or where mmkd wrote in the file, whose tensors' names are `state`, what was done.
    """
    theirs = published_normalisation(arch)
    channels = len(here.mean)
    if theirs is None or AFFINE in state or theirs == IMAGENET or theirs.of(channels).words() == here.words():
        return ""
    return (
        f"the weights that its library publishes for {arch} are of pixels in 0 to 1, {theirs.words()}, and here they are "
        f"{here.words()}: a file does not say by which of the two it was trained"
    )


def load_weights(model: Classifier, path: Path, arch: str) -> None:
    """Fills `model` from a file. UserError where that cannot be read or does not fit."""
    _fill(model, fit_of(model, path, arch), path)


def load_fitting(
    path: Path, arch: str, make: Callable[[], Classifier], say: Callable[[str], None] = lambda _: None
) -> Classifier:
    """What `make` gives, filled from a file; names and shapes are compared before any of its tensors takes up memory.

    What was chosen among the file's tensors is told by `say`. UserError where it cannot be read or does not fit.
    """
    found = fit_of(sketch(make), path, arch, say)
    model = make()
    _fill(model, found, path)
    return model


def sketch(make: Callable[[], Classifier]) -> Classifier:
    """What `make` gives, without numbers where it can be made so."""
    try:
        with torch.device("meta"):
            return make()
    except Exception:  # some compute with tensors' numbers; a mistake that has nothing to do with that is told by this, too
        return make()


def fit_of(model: Classifier, path: Path, arch: str, say: Callable[[str], None] = lambda _: None) -> Fit:
    """UserError, on one line, where not everything fits; that is found out from shapes alone, before a tensor is read."""
    refuse_unfit(model, path, arch)
    contents = read_tensors(path)
    found = _whole(model, contents, path, arch)
    for said in (contents.sentence(), found.left_out()):
        if said:
            say(f"{path}: {said}")
    return found


def refuse_unfit(model: Classifier, path: Path, arch: str) -> None:
    """UserError where a file cannot be read or does not fit; no tensor of it is read."""
    _whole(model, outline_of(path), path, arch)


def _whole(model: Classifier, contents: Contents, path: Path, arch: str) -> Fit:
    found = fit_to(model, contents.tensors)
    if not found.whole:
        of = f" ({contents.averages})" if contents.averages else ""
        raise UserError(f"{path}{of} does not fit {arch} on this data set: {found.sentence()}; {remedy(found, model)}")
    return found


def remedy(found: Fit, model: Classifier) -> str:
    """What would mend that a file does not fit `model`; nothing where it does."""
    told = {_told(name, there, here, model) for name, there, here in found.shapes}
    if found.missing or found.unknown or "" in told:
        return "give the architecture that it is of"
    return "; ".join(sorted(told))


def _told(name: str, there: tuple[int, ...], here: tuple[int, ...], model: Classifier) -> str:
    """Why a shape differs, and what helps, where the network itself need not be another one; else nothing."""
    if len(there) == len(here) > 0 and there[1:] == here[1:]:  # within a network, what reads its output would differ, too
        return f"it knows {there[0]:,} classes, and the data set has {here[0]:,}: give one that was trained on these"
    if len(there) == len(here) == 4 and there[::2] + there[3:] == here[::2] + here[3:] and {there[1], here[1]} == _CHANNELS:
        many = "1 channel" if there[1] == 1 else f"{there[1]} channels"
        return f"it was trained on images of {many}, and these have {here[1]}: give one that was trained on such"
    if name.endswith(_PLACES) and len(there) == len(here) == 3 and isinstance(model, Tapped) and model.example is not None:
        side = model.size or model.example[1]
        for prefix in range(3):  # class and distillation tokens may have places, too
            theirs, ours = (math.isqrt(max(shape[1] - prefix, 0)) for shape in (there, here))
            if (theirs**2 + prefix, ours**2 + prefix) == (there[1], here[1]) and ours and there[2] == here[2]:
                return (
                    f"it is of images of {side * theirs // ours} pixels along a side, and here they have {side}: ask for its "
                    "size (dataset.size, --size), which pictures in files can have"
                )
    return ""


def _fill(model: Classifier, found: Fit, path: Path) -> None:
    own = _names(model, found.tensors)
    tensors = {name: value.to(own[name].dtype) for name, value in found.tensors.items()}
    if any(not torch.isfinite(value).all() for value in tensors.values() if value.is_floating_point()):
        raise UserError(f"{path} holds numbers that are not finite; it cannot be used as a teacher")
    model.load_state_dict(tensors, strict=False)
