"""What there is to compute with, and in which precision it is fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from engine.control_group import machine_memory, memory, usable_cores
from engine.device import bf16_is_fast
from engine.doctor.finding import Finding, Grade
from engine.gpu_lock import GpuBusyError, gpu_of, refuse_if_busy
from engine.processor import FLAGS, processor
from engine.text import one_line

SECTION = "devices"
GIB = 1 << 30


def findings() -> Iterator[Finding]:
    """Of the processor, its memory, and each GPU."""
    model, flags = processor()
    cores = usable_cores()
    known = ", ".join(flag for flag in FLAGS if flag in flags)
    yield Finding(SECTION, "processor", f"{model}, {cores} core{'s' * (cores > 1)}{f' ({known})' * bool(known)}")
    fast = "bf16 and fp32" if bf16_is_fast(torch.device("cpu")) else "fp32 (no bf16 instructions)"
    yield Finding(SECTION, "CPU precision", f"fast at {fast}; {torch.get_num_threads()} threads")
    yield from _memory()
    yield from _gpus()


def _memory() -> Iterator[Finding]:
    total, limit = machine_memory(), memory().total
    if limit < total:
        remedy = "a run that needs more is killed; give the container or job more memory"
        grade: Grade = "warning" if limit < 4 * GIB else "note"
        yield Finding(SECTION, "memory", f"{limit / GIB:.1f} GiB of {total / GIB:.1f} for this container or job", grade, remedy)
    else:
        yield Finding(SECTION, "memory", f"{total / GIB:.1f} GiB")


def _gpus() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        yield _no_gpu()
        return
    yield from map(_gpu, range(torch.cuda.device_count()))


def _gpu(index: int) -> Finding:
    name, filled = f"cuda:{index}", "nvidia-smi shows what fills its memory"
    found = torch.cuda.get_device_properties(index)
    precision = "bf16 and fp32" if bf16_is_fast(torch.device("cuda", index)) else "fp32"
    value = f"{one_line(found.name, 60)}, compute {found.major}.{found.minor}, fast at {precision}"
    try:
        free, total = torch.cuda.mem_get_info(index)
    except RuntimeError as error:  # full, or somebody else's alone: the others are none the worse for it
        return Finding(SECTION, name, f"{value}; it cannot be used now: {one_line(str(error), 100)}", "warning", filled)
    value += f", {free / GIB:.1f} of {total / GIB:.1f} GiB free"
    try:
        refuse_if_busy(name)
    except GpuBusyError as error:
        return Finding(SECTION, name, f"{value}; {error.holder} is at work on it", "note")
    crowded = free < total / 10
    return Finding(SECTION, name, value, "warning" if crowded else "ok", filled if crowded else "")


def _no_gpu() -> Finding:
    """Whether there is one that PyTorch cannot use."""
    driver = Path("/proc/driver/nvidia/version").exists() or bool(list(Path("/dev").glob("nvidia[0-9]*")))
    if not driver:
        return Finding(SECTION, "GPU", "none", "note")
    if torch.version.cuda is None:
        remedy = "this PyTorch is built for the CPU: pip install --force-reinstall torch torchvision"
        return Finding(SECTION, "GPU", "an NVIDIA driver is here, but PyTorch cannot use it", "problem", remedy)
    if gpu_of("cuda:0") is None:
        remedy = "CUDA_VISIBLE_DEVICES hides every GPU: unset it, or name one"
        return Finding(SECTION, "GPU", "an NVIDIA driver is here, but no GPU is visible", "warning", remedy)
    remedy = f"PyTorch is built for CUDA {torch.version.cuda}: nvidia-smi shows whether the driver works and is new enough for it"
    return Finding(SECTION, "GPU", "an NVIDIA driver is here, but PyTorch cannot use it", "problem", remedy)
