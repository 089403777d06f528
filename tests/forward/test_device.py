"""Scoring says beforehand where it runs, and points out a GPU that lies idle."""

from __future__ import annotations

import pytest
import torch

from trajstore.errors import DeviceError
from trajstore.forward import device


def pretend(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, cuda: str | None, works: bool = False) -> None:
    monkeypatch.setattr(device, "gpu_present", lambda: gpu)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")


def test_a_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=False, cuda=None)
    message = device.device_message()
    number = torch.get_num_threads()
    assert message == f"Scoring on cpu ({number} thread{'s' * (number > 1)}) in float32."
    assert device.device_message(threads=3) == "Scoring on cpu (3 threads) in float32."


def test_a_gpu_under_a_build_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=True, cuda=None)
    first, second = device.device_message(dtype="bfloat16").splitlines()
    assert first.endswith("in bfloat16.")
    assert "is a build for the CPU" in second
    assert "without the constraints file: pip install --force-reinstall torch" in second


def test_a_gpu_whose_driver_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=True, cuda="13.0")
    assert "(CUDA 13.0) cannot use it" in device.device_message()


def test_a_gpu_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=True, cuda="13.0", works=True)
    assert device.device_message() == "Scoring on cuda: NVIDIA H200 in float32."
    assert device.choose_device() == torch.device("cuda")


def test_what_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tpu", "gpu:x", "meta0"):
        with pytest.raises(DeviceError, match=f"no device '{name}'"):
            device.choose_device(name)
    with pytest.raises(DeviceError, match="there is: float32, bfloat16, float16"):
        device.choose_dtype("float64")
    assert device.choose_device("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        pretend(monkeypatch, gpu=True, cuda=None)
        with pytest.raises(DeviceError, match="build for the CPU"):
            device.choose_device("cuda")
