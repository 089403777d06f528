"""The device and the number format of a forward pass, and the line that says so beforehand."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trajstore.arguments.spelling import as_given, option
from trajstore.checkpoints.config_check import read_config
from trajstore.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
"""The dtype that a checkpoint says of itself."""


def choose_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where it works, else the CPU; other names are torch's. Raises `DeviceError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        hint = (
            cpu_build_warning()
            or f"Take {option('device', 'auto')} or {option('device', 'cpu')}. ({str(error).splitlines()[0]})"
        )
        raise DeviceError(
            f"There is no device {name!r} for torch {torch.__version__} here. {hint}"
        ) from error
    return device


def choose_devices(names: Sequence[str | int]) -> list[str]:
    """The devices of several processes by name: numbers are GPUs, `all` is all of them. Raises `DeviceError`.

    What a process cannot use it says itself: looking here would take memory of each GPU.
    """
    if list(names) != ["all"]:
        return [f"cuda:{name}" if str(name).isdecimal() else str(name) for name in names]
    if count := torch.cuda.device_count():
        return [f"cuda:{number}" for number in range(count)]
    hint = cpu_build_warning() or f"Name the devices, as in {option('devices', 'cpu,cpu')}."
    raise DeviceError(f"There is no GPU for torch {torch.__version__} here. {hint}")


def choose_dtype(name: str = "float32") -> torch.dtype:
    """The number format of the weights; raises `DeviceError` for one that is not offered."""
    if name not in DTYPES:
        raise DeviceError(f"There is no {as_given('dtype', name)}; there is: {', '.join(DTYPES)}, {AUTO}.")
    return DTYPES[name]


def own_dtype(folder: Path) -> str:
    """The number format that the configuration in a checkpoint's folder names.

    That is what the weights were saved for, which is not always what they were trained in: Pythia says float16.
    Raises `DeviceError` where it names none that is offered, `CheckpointError` where it cannot be read.
    """
    config = read_config(folder)
    places = [place for place in (config, config.get("text_config")) if isinstance(place, dict)]
    named = [place[key] for place in places for key in ("dtype", "torch_dtype") if place.get(key)]
    name = str(named[0]).removeprefix("torch.") if named else None
    if name not in DTYPES:
        says = f"the dtype {name}" if name else "no dtype"
        raise DeviceError(
            f"{folder}/config.json names {says}: take one of {option('dtype')} {', '.join(DTYPES)}."
        )
    return name


@contextmanager
def exact_products() -> Iterator[None]:
    """Float32 products with all their bits inside the block, also where TF32 is on, as some containers have it."""
    backends: Any = torch.backends
    places = [backends.cuda.matmul, backends.mkldnn.matmul]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            inherited = precision == backends.fp32_precision
            place.fp32_precision = "none" if inherited else precision


def device_name(device: torch.device) -> str:
    """`cpu`, or the kind of device and its maker's name, as in `cuda: NVIDIA H200`."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def device_message(device: str = "auto", dtype: str = "float32", threads: int | None = None) -> str:
    """A line that says where scoring runs, and a second one where a GPU lies idle for want of a CUDA build.

    `threads` are those asked for; None for as many as torch takes.
    """
    chosen = choose_device(device)
    if dtype != AUTO:
        choose_dtype(dtype)
    number = threads or torch.get_num_threads()
    on = f" ({number} {'thread' if number == 1 else 'threads'})" if chosen.type == "cpu" else ""
    warning = cpu_build_warning() if chosen.type == "cpu" else None
    numbers = "the checkpoints' own dtype" if dtype == AUTO else dtype
    return f"Scoring on {device_name(chosen)}{on} in {numbers}." + (
        f"\nWarning: {warning}" if warning else ""
    )


def cpu_build_warning() -> str | None:
    """Return advice where this machine has an NVIDIA GPU that this torch cannot use; None elsewhere."""
    if torch.cuda.is_available() or not gpu_present():
        return None
    if torch.version.cuda is None:
        return (
            f"this machine has an NVIDIA GPU, but torch {torch.__version__} is a build for the CPU. Install the "
            "CUDA build, without the constraints file: pip install --force-reinstall torch"
        )
    return (
        f"this machine has an NVIDIA GPU, but torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use it: "
        "its driver is missing or too old, or CUDA_VISIBLE_DEVICES hides it."
    )


def gpu_present() -> bool:
    """Return whether an NVIDIA GPU or its driver can be seen without torch."""
    places = (Path("/dev/nvidia0"), Path("/proc/driver/nvidia"))
    return shutil.which("nvidia-smi") is not None or any(place.exists() for place in places)
