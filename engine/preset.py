"""The preset: one experiment as frozen, validated data. It can name things of the catalogue; it can never run code."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from engine import catalog
from engine.architecture_facts import ARCHITECTURES
from engine.architectures import LIBRARY_NAME, is_architecture, library_of, likely_name
from engine.paths import expanded
from engine.plugins import NAME

RECORDED = "recorded"  # as a validation's context: what a run wrote down is read, where plugins need not be loaded
# Files that training scripts give this name, whatever they hold: model_best.pth.tar, ckpt_epoch_240.pth, weights.safetensors.
_SAYS_NOTHING = re.compile(
    r"([-_\d]|model|weights?|checkpoint|ckpt|state|dict|best|last|latest|final|epoch|step|ema|acc|net|pytorch)+"
)


def setting(default: Any, description: str, unit: str = "none", **limits: Any) -> Any:
    """A preset's field: its default (... where it must be given), what it means, its unit and its limits."""
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


def known(kind: str, names: dict[str, Any]) -> AfterValidator:
    """A validator that accepts only names of the catalogue, and says which is nearest to a wrong one."""

    def check(name: str) -> str:
        if name not in names:
            likely = catalog.nearest(name, names)
            hint = f"did you mean '{likely}'?" if likely else f"one of {', '.join(names)}"
            raise PydanticCustomError("unknown_name", "there is no {kind} of that name; {hint}", {"kind": kind, "hint": hint})
        return name

    return AfterValidator(check)


class Part(BaseModel):
    """What every part of a preset shares: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def known_architecture(name: str, info: ValidationInfo) -> str:
    """Accepts the catalogue's names, torchvision:NAME, timm:NAME and those of a plugin that is loaded; if RECORDED, of any."""
    if is_architecture(name) or (info.context == RECORDED and NAME.fullmatch(name)):
        return name
    likely = likely_name(name)
    some = ", ".join(list(ARCHITECTURES)[:12])
    hint = f"did you mean '{likely}'?" if likely else f"one of {some} and others, torchvision:NAME, timm:NAME"
    if ":" not in name:
        hint += " (one of your own needs --plugin FILE)"
    values = {"kind": "architecture", "hint": hint}
    raise PydanticCustomError("unknown_name", "there is no {kind} of that name; {hint}", values)


Seed = Annotated[int, Field(ge=0, lt=2**63)]
Architecture = Annotated[
    str,
    AfterValidator(known_architecture),
    Field(json_schema_extra={"anyOf": [{"enum": list(ARCHITECTURES)}, {"pattern": f"^{LIBRARY_NAME.pattern}$"}]}),
]
FeaturePath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=200)]
Dataset = Annotated[str, known("data set", catalog.DATASETS), Field(json_schema_extra={"enum": list(catalog.DATASETS)})]


class DatasetPart(Part):
    """Which images, and how they are split."""

    name: Dataset = setting(..., "the data set, by its name in the catalogue")
    validation_fraction: float = setting(
        0.1, "share of the training images that is held out to choose the best epoch", "fraction of images", gt=0.0, le=0.5
    )
    train_images: int | None = setting(
        None, "train on only so many images, drawn once by split_seed; null: on all that are left", "images", ge=1
    )
    split_seed: Seed = setting(0, "which images are held out for validation")
    path: str | None = setting(
        None, "the folder of your own pictures, for imagefolder and webdataset; relative to the preset's folder",
        min_length=1, max_length=4096,
    )  # fmt: skip
    size: int | None = setting(
        None, "height and width to which pictures in files are cropped and scaled; null: 224", "pixels", ge=16, le=1024
    )
    resize: int | None = setting(
        None,
        "to what the shorter side of a picture in a file is scaled before its middle is measured; null: size * 256 / 224, as is "
        "usual in the field",
        "pixels",
        ge=16,
        le=2048,
    )
    shuffle: Literal["images", "shards"] = setting(
        "images",
        "the order of training images; images: any may follow any; shards: eight shards of webdataset at a time, in random "
        "order, and the images in them, for storage that is slow at reading here and there",
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        facts = catalog.DATASETS[self.name]
        own = facts.own
        if own != (self.path is not None):
            said = "needs a folder; add path: /where/your/pictures/are" if own else "takes no path; remove it, or use imagefolder"
            raise PydanticCustomError("path", "{name} {said}", {"name": self.name, "said": said})
        if self.size is not None and not facts.from_files:
            raise PydanticCustomError(
                "size", "the images of {name} have {size}x{size} pixels; remove size", {"name": self.name, "size": facts.size}
            )
        if self.resize is not None and not facts.from_files:
            raise PydanticCustomError("resize", "the images of {name} are taken as they are; remove resize", {"name": self.name})
        if self.resize is not None and self.resize < (size := self.size or facts.size):
            raise PydanticCustomError(
                "resize", "resize is smaller than the {size} pixels of size; give {size} or more", {"size": size}
            )
        if self.shuffle == "shards" and self.name != catalog.SHARDS:
            raise PydanticCustomError("shuffle", "{name} has no shards; remove shuffle, or use webdataset", {"name": self.name})
        return self


class TrainPart(Part):
    """A training recipe: stochastic gradient descent with a step schedule. The defaults are the paper's."""

    epochs: int = setting(240, "passes over the training images", "epochs", ge=1, le=100_000)
    batch_size: int = setting(64, "images a step; a last, shorter batch of an epoch is skipped", "images", ge=2, le=65_536)
    lr: float = setting(0.05, "learning rate at the start", "1 per gradient", gt=0.0, le=100.0)
    momentum: float = setting(0.9, "momentum of SGD", "fraction", ge=0.0, lt=1.0)
    nesterov: bool = setting(True, "Nesterov's form of the momentum; needs momentum > 0")
    weight_decay: float = setting(5e-4, "L2 penalty on all parameters", "1 per step and lr", ge=0.0, le=1.0)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] | None = setting(
        None, "epochs after which the learning rate is cut; null: after 62.5, 75 and 87.5 % of the epochs", "epochs"
    )
    lr_decay: float = setting(0.1, "factor of the learning rate at each milestone", "factor", gt=0.0, le=1.0)
    augment: bool = setting(True, "random crops (and flips where the data set allows them) of training images")
    label_noise: float = setting(
        0.0, "share of the training labels replaced by other classes; which, the training's seed says", "fraction of images",
        ge=0.0, lt=1.0,
    )  # fmt: skip

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise PydanticCustomError("nesterov", "nesterov needs a momentum above 0; set nesterov: false or momentum: 0.9")
        stones = self.milestones or ()
        if list(stones) != sorted(set(stones)):
            raise PydanticCustomError(
                "milestones", "milestones must rise from one to the next; sort them and remove repeats: {sorted}",
                {"sorted": str(sorted(set(stones)))[:60]},
            )  # fmt: skip
        return self

    @property
    def decay_epochs(self) -> tuple[int, ...]:
        """The milestones, defaults worked out: 150, 180 and 210 of 240 epochs."""
        if self.milestones is not None:
            return self.milestones
        return tuple(sorted({max(1, round(self.epochs * share)) for share in (0.625, 0.75, 0.875)}))

    def lr_at(self, epoch: int) -> float:
        """The learning rate in `epoch`, counted from 0."""
        return self.lr * self.lr_decay ** sum(epoch >= stone for stone in self.decay_epochs)


class TeacherPart(Part):
    """One teacher: trained from a recipe (and found again in the store), or loaded from a checkpoint."""

    arch: Architecture = setting(..., "the teacher's architecture")
    seed: Seed = setting(0, "seed of its initial weights and of its training")
    train: TrainPart | None = setting(None, "its training recipe; null: the paper's, unless a checkpoint is given")
    checkpoint: str | None = setting(
        None, "a .safetensors or .pth file with its weights; relative to the preset's folder", min_length=1, max_length=4096
    )
    pretrained: bool = setting(
        False, "begin with the weights that torchvision or timm publishes; with a recipe (train) they are trained further"
    )
    features: FeaturePath | None = setting(
        None, "the module whose output is its feature map, as in layer4.1; null: the last one before the global pooling"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.checkpoint is not None and self.train is not None:
            raise PydanticCustomError(
                "either", "a teacher has either a training recipe (train) or a checkpoint, not both; remove one"
            )
        if self.pretrained and self.checkpoint is not None:
            raise PydanticCustomError("either", "a teacher is either pretrained or from a checkpoint, not both; remove one")
        if self.pretrained and library_of(self.arch)[0] not in ("torchvision", "timm"):
            raise PydanticCustomError(
                "pretrained", "only torchvision: and timm: networks come with weights; remove pretrained from {arch}",
                {"arch": self.arch},
            )  # fmt: skip
        return self

    @property
    def trained(self) -> bool:
        """Whether a run has to train it, or find it in the store."""
        return self.checkpoint is None and not (self.pretrained and self.train is None)

    @property
    def recipe(self) -> TrainPart:
        """The recipe it is trained by where no checkpoint is given."""
        return self.train or TrainPart()


class StudentPart(Part):
    """The small network that is wanted."""

    arch: Architecture = setting(..., "the student's architecture")
    features: FeaturePath | None = setting(
        None, "the module whose output is its feature map; null: the last one before the global pooling"
    )


class MetaPart(Part):
    """How the meta-weight network is learned (method.md, 'The meta step')."""

    every: int = setting(5, "a meta step after every so many training steps", "steps", ge=1, le=1_000_000)
    lr: float = setting(1e-3, "learning rate of Adam on the weight networks", "1 per gradient", gt=0.0, le=10.0)
    weight_decay: float = setting(1e-4, "L2 penalty on the weight networks", "1 per step", ge=0.0, le=1.0)
    match_steps: int = setting(2, "inner SGD steps on the matching loss before the one on cross entropy", "steps", ge=1, le=16)
    buffer_size: int = setting(256, "samples in the hard buffer; at least one batch", "images", ge=2, le=1_000_000)
    learning: Literal["meta", "joint"] = setting(
        "meta",
        "meta: by the meta step; joint: an ablation without it, each training step's matching loss teaches the weights, too",
    )
    batches: Literal["hard", "random"] = setting(
        "hard", "what meta steps learn from: samples that the student got wrong, or (an ablation) any recent ones"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.learning == "joint" and self.batches != "hard":
            raise PydanticCustomError(
                "joint", "learning: joint takes no meta steps, so batches: random says nothing; remove it or set learning: meta"
            )
        return self


class _KnowledgePart(Part):
    """What every method shares that imitates the teachers' logits."""

    gamma: float = setting(1.0, "weight of the cross entropy with the labels", "factor", ge=0.0, le=1e6)
    alpha: float = setting(1.0, "weight of the logit (KL) loss", "factor", ge=0.0, le=1e6)
    temperature: float = setting(4.0, "softens both sides' logits in the KL divergence", "none", gt=0.0, le=1000.0)


class _FeaturePart(_KnowledgePart):
    """What every method shares that imitates the teachers' feature maps, too."""

    beta: float = setting(100.0, "weight of the feature loss", "factor", ge=0.0, le=1e6)
    regressor: Literal["pointwise", "bottleneck"] = setting(
        "pointwise", "maps the student's features to a teacher's channels: one 1x1 convolution, or 1x1, 3x3, 1x1"
    )


class MmkdPart(_FeaturePart):
    """Adaptive multi-teacher distillation with meta-learning (ICME 2023)."""

    name: Literal["mmkd"] = setting(..., "the method")
    gram: Literal["normalised", "raw"] = setting(
        "normalised", "input of the feature weights: Gram rows divided by their L2 norm, or as they are (the public code's)"
    )
    weigh: Literal["both", "logits", "features"] = setting(
        "both", "what gets learned weights; the other side counts every teacher the same (an ablation)"
    )
    meta: MetaPart = setting(MetaPart(), "how the weights are learned")

    @property
    def buffered(self) -> bool:
        """Whether there are meta steps, which learn from a buffer."""
        return self.meta.learning == "meta"


class AverPart(_KnowledgePart):
    """Equal weights for every teacher's logits."""

    name: Literal["aver"] = setting(..., "the method")


class EbkdPart(_KnowledgePart):
    """Logit weights by the entropy of each teacher's prediction (Kwon et al., ICASSP 2020)."""

    name: Literal["ebkd"] = setting(..., "the method")


class CamkdPart(_FeaturePart):
    """Logit and feature weights by each teacher's cross entropy with the label (CA-MKD, ICASSP 2022)."""

    name: Literal["camkd"] = setting(..., "the method")
    beta: float = setting(50.0, "weight of the feature loss", "factor", ge=0.0, le=1e6)


class AekdPart(_FeaturePart):
    """Weights of each batch by the shortest vector in the hull of the teachers' gradients (AEKD, NeurIPS 2020)."""

    name: Literal["aekd"] = setting(..., "the method")
    beta: float = setting(0.0, "weight of the feature loss; 0: logits alone", "factor", ge=0.0, le=1e6)
    tolerance: float = setting(
        0.6, "the most that one teacher may weigh: the paper's C, at least 1 / teachers, where all weigh the same", "weight",
        gt=0.0, le=1.0,
    )  # fmt: skip


class FitnetPart(_FeaturePart):
    """Equal weights for every teacher's logits and feature maps (FitNets, ICLR 2015)."""

    name: Literal["fitnet"] = setting(..., "the method")


class KdPart(_KnowledgePart):
    """Knowledge distillation from one teacher (Hinton et al., 2015)."""

    name: Literal["kd"] = setting(..., "the method")


class CePart(Part):
    """Cross entropy with the labels alone; teachers, if any, are measured but not used."""

    name: Literal["ce"] = setting(..., "the method")


Method = Annotated[
    MmkdPart | AverPart | EbkdPart | CamkdPart | AekdPart | FitnetPart | KdPart | CePart, Field(discriminator="name")
]
METHOD: TypeAdapter[Method] = TypeAdapter(Method)
METHOD_PARTS: dict[str, type[Part]] = {get_args(p.model_fields["name"].annotation)[0]: p for p in get_args(get_args(Method)[0])}


class TeacherCachePart(Part):
    """The teachers' outputs, computed once for fixed augmented views of each image, so that training runs no teacher."""

    views: int = setting(
        ..., "fixed augmented views of each training image; each epoch shows the next one", "views", ge=1, le=1000
    )
    storage: Literal["auto", "memory", "disk"] = setting(
        "auto",
        "disk: in files that runs share, mapped into memory; memory: in memory alone, made anew by each run; "
        "auto: in files, read onto the GPU where they fit there; in memory where the disk has no room",
    )


class EvaluatePart(Part):
    """What is measured, and what chooses the best epoch."""

    select_on: Literal["validation", "test"] = setting(
        "validation", "the split that chooses the best epoch; test only to compare with tables made so, and said in every report"
    )
    every: int = setting(1, "measure after every so many epochs (and after the last)", "epochs", ge=1, le=100_000)
    batch_size: int = setting(512, "images a pass when measuring", "images", ge=1, le=65_536)
    accept_weak_teachers: bool = setting(
        False, "go on with teachers that are given, not trained here, even where they are no better than guessing"
    )
    student_alone: bool = setting(True, "also train the same student without teachers, to show what distillation bought")


class CheckpointsPart(Part):
    """When a run saves where it is, and how many such checkpoints it keeps; the best student so far is kept beside them."""

    every: float | None = setting(
        300.0, "save one when the last is so old; 0: after every step; null: by epochs and on demand alone", "seconds",
        ge=0.0, le=1e6,
    )  # fmt: skip
    every_epochs: int | None = setting(None, "also save one after every so many epochs; null: do not", "epochs", ge=1, le=100_000)
    keep: int = setting(2, "how many of a training's checkpoints are kept, the newest", "checkpoints", ge=1, le=1000)


class NonFinitePart(Part):
    """What is done about training steps whose loss or gradient is not a finite number: each is left out."""

    skip: int = setting(
        10, "so many in a row are left out before the training goes back to its last checkpoint", "steps", ge=1, le=1_000_000
    )
    rollbacks: int = setting(2, "a training that has gone back so often fails instead", "times", ge=0, le=1000)


class HardwarePart(Part):
    """Where it runs."""

    device: str = setting(
        "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$"
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        "of convolutions and teachers' linear layers; auto: bf16 where the device is fast at it; measurements are fp32",
    )
    compile: Literal["auto", "on", "off"] = setting(
        "auto",
        "compile the steps beside the training, which never waits for it; auto: where it is long enough to pay that back",
    )
    threads: int | None = setting(None, "CPU threads for tensor work; null: what PyTorch chooses", "threads", ge=1, le=1024)
    workers: int | None = setting(
        None,
        "processes that decode pictures in files; null: one less than the processor's cores, at most 16; 0: the training does it",
        "processes", ge=0, le=256,
    )  # fmt: skip
    teachers: Literal["resident", "in_turn", "sharded"] = setting(
        "resident",
        "where frozen teachers live; resident: on the device; in_turn: in CPU memory, two at most on the device at a time; "
        "sharded: each a share on every process of a run of several, put together a piece at a time",
    )


class Preset(Part):
    """One experiment: which teachers teach which student what, and how."""

    name: str = setting(..., "a short name; run folders begin with it", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    description: str = setting("", "one line for the menu", max_length=500)
    seed: Seed = setting(0, "seed of the student: its initial weights, the order of images, augmentation, buffer draws")
    dataset: DatasetPart = setting(..., "the images")
    teachers: tuple[TeacherPart, ...] = setting((), "the teachers, in the order in which displays show them", max_length=64)
    only_teachers: bool = setting(
        False, "end when the teachers are trained and in the store: no student is trained (mmkd teachers train makes such runs)"
    )
    student: StudentPart = setting(..., "the student")
    method: Method = setting(MmkdPart(name="mmkd"), "how the teachers' knowledge is weighted, and its settings")
    train: TrainPart = setting(TrainPart(), "the student's training recipe")
    teacher_cache: TeacherCachePart | None = setting(
        None, "compute the teachers' outputs once for fixed views of the images; null: ask the teachers at every step"
    )
    evaluate: EvaluatePart = setting(EvaluatePart(), "what is measured")
    checkpoints: CheckpointsPart = setting(CheckpointsPart(), "when a run saves where it is")
    hardware: HardwarePart = setting(HardwarePart(), "where it runs")
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb", "trackio"], ...] = setting(
        (),
        "where else the run's figures are shown: tensorboard, mlflow, wandb, trackio; each an extra of that name",
        max_length=4,
    )
    non_finite: NonFinitePart = setting(NonFinitePart(), "what is done about a loss or gradient that is not a finite number")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.only_teachers and self.method.name == "ce":
            raise PydanticCustomError(
                "only_teachers",
                "method ce learns from no teachers; remove only_teachers, or name a method that does, as aver",
            )
        facts = catalog.METHODS[self.method.name]
        count = len(self.teachers)
        if count < facts.least_teachers:
            hint = "add teachers, or use method: {name: kd} for one teacher" if count == 1 else "add teachers"
            if self.method.name == "kd":
                hint = "add one"
            raise PydanticCustomError(
                "teachers", "method {method} needs at least {least} teachers and has {count}; {hint}",
                {"method": facts.name, "least": facts.least_teachers, "count": count, "hint": hint},
            )  # fmt: skip
        if facts.most_teachers is not None and count > facts.most_teachers:
            raise PydanticCustomError(
                "teachers", "method {method} takes {most} teacher and has {count}; use aver or mmkd for more",
                {"method": facts.name, "most": facts.most_teachers, "count": count},
            )  # fmt: skip
        for later, teacher in enumerate(self.teachers):
            if teacher in self.teachers[:later]:
                raise PydanticCustomError(
                    "teachers", "teachers {first} and {later} are the same one twice; give one another seed or architecture",
                    {"first": self.teachers.index(teacher), "later": later},
                )  # fmt: skip
        if isinstance(self.method, AekdPart) and self.method.tolerance * count < 1:
            raise PydanticCustomError(
                "tolerance", "{count} weights of at most {given} cannot sum to 1; set it to at least 1/{count}, {least}",
                {"count": count, "given": self.method.tolerance, "least": math.ceil(1e4 / count) / 1e4},
            )  # fmt: skip
        if self.teacher_cache is not None and self.hardware.teachers == "sharded":
            raise PydanticCustomError(
                "sharded", "a teacher_cache asks one teacher at a time, before the training; set hardware.teachers to in_turn"
            )
        if isinstance(self.method, MmkdPart) and self.method.buffered and self.method.meta.buffer_size < self.train.batch_size:
            raise PydanticCustomError(
                "buffer", "a buffer of {size} holds no whole batch; set it to at least train.batch_size, {batch}",
                {"size": self.method.meta.buffer_size, "batch": self.train.batch_size},
            )  # fmt: skip
        return self

    @property
    def networks(self) -> tuple[tuple[str, str | None], ...]:
        """Architecture and `features` of all that it has to do with: the student's, where one is trained, and the teachers'."""
        student = () if self.only_teachers else ((self.student.arch, self.student.features),)
        return (*student, *((part.arch, part.features) for part in self.teachers))

    @property
    def looks_at_features(self) -> bool:
        """Whether the method looks at the teachers' feature maps, beside their logits."""
        part = self.method
        return part.beta > 0 if isinstance(part, AekdPart) else catalog.METHODS[part.name].features

    @property
    def asks_heads(self) -> bool:
        """Whether the method asks the teachers' classifier heads at every step, beside what the teachers say."""
        return isinstance(self.method, CamkdPart)

    @property
    def teacher_labels(self) -> tuple[str, ...]:
        """A short name for each teacher, each different: `vgg13-s0`, `vgg13-s0-n40` with 40 % label noise, its file's name, or,
        where that is any checkpoint's (`model_best`), its architecture.
        """
        labels: list[str] = []
        for teacher in self.teachers:
            if teacher.checkpoint is None:
                noise = f"-n{100 * teacher.recipe.label_noise:.3g}" if teacher.recipe.label_noise else ""
                label = f"{teacher.arch}-s{teacher.seed}{noise}"
            else:
                name = Path(teacher.checkpoint).name.partition(".")[0]
                label = teacher.arch if _SAYS_NOTHING.fullmatch(name) else Path(teacher.checkpoint).stem
            same = sum(known == label or known.startswith(f"{label} (") for known in labels)
            labels.append(f"{label} ({same + 1})" if same else label)
        return tuple(labels)

    def anchored(self, folder: Path) -> Preset:
        """The same preset with absolute paths of checkpoints and pictures; relative ones are looked for in `folder`."""
        teachers = tuple(
            t if t.checkpoint is None else t.model_copy(update={"checkpoint": str((folder / expanded(t.checkpoint)).resolve())})
            for t in self.teachers
        )
        dataset = self.dataset
        if dataset.path is not None:
            dataset = dataset.model_copy(update={"path": str((folder / expanded(dataset.path)).resolve())})
        return self.model_copy(update={"teachers": teachers, "dataset": dataset})
