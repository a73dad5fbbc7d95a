"""Which device a run uses, and in which precision."""

from __future__ import annotations

import os

import torch

from engine.control_group import usable_cores
from engine.errors import UserError
from engine.preset import HardwarePart


def resolve_device(hardware: HardwarePart, local: int | None = None, here: int = 1) -> torch.device:
    """The device that `hardware.device` names, made ready for use as by `prepare`; for process number `local` of the `here` that
    train together on this machine, one of its own. UserError where this machine has none such, or too few.
    """
    name = hardware.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if local is not None and device.type == "cuda":
        if device.index is not None:
            raise UserError(f"hardware.device is {name}, but several processes train together; use --device cuda")
        device = torch.device("cuda", local)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if local is not None and 0 < count < here:
            raise UserError(
                f"{here} processes train together on this machine, each on a GPU of its own, but it has {count}; --gpus {count} "
                f"fits: {count} x train.batch_size images a step instead of {here} x"
            )
        if (device.index or 0) >= count:
            have = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device that PyTorch can use"
            raise UserError(f"hardware.device is {name}, but this machine has {have}; use --device auto or --device cpu")
        device = torch.device("cuda", device.index or 0)
    prepare(device)
    return device


def prepare(device: torch.device) -> None:
    """Makes a GPU the calling thread's current one, so that what PyTorch does of itself takes no room on another, and float32
    mean float32: PyTorch lets convolutions on a GPU round to TF32. Who wants to be fast has bfloat16.
    """
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        torch.cuda.set_device(device)


def use_threads(hardware: HardwarePart) -> None:
    """Has PyTorch compute with the threads that the preset wants. If it says nothing, and OMP_NUM_THREADS neither, with no more
    than this process has processor time for: PyTorch counts the machine's cores, and threads beyond our share only wait.
    """
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > (cores := usable_cores()):
        torch.set_num_threads(cores)


def uses_bf16(hardware: HardwarePart, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16: as the preset says; under `auto`, where the device has instructions for it."""
    return bf16_is_fast(device) if hardware.precision == "auto" else hardware.precision == "bf16"


def bf16_is_fast(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def gpu_uuid(device: torch.device) -> str | None:
    """Its name, whatever CUDA_VISIBLE_DEVICES says, as the driver writes it: `GPU-8f2d...`; None where there is none."""
    if device.type != "cuda":
        return None
    found = getattr(torch.cuda.get_device_properties(device), "uuid", None)  # older releases lack it
    return None if found is None else f"GPU-{str(found).removeprefix('GPU-')}"


def device_name(device: torch.device) -> str:
    """For people: `cuda:0 (NVIDIA H100)`, `cpu (2 threads)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})"
