"""The devices of this machine."""

import torch

from heteroseg.errors import HeterosegError


def best_device() -> str:
    """A GPU of this machine, or its cpu."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def require_device(device: str | torch.device) -> None:
    """Raise HeterosegError for a device that this machine lacks, or that holds no numbers."""
    try:
        torch.ones(1, device=device).item()  # which "meta" does not have
    except (RuntimeError, AssertionError, TypeError):  # no such device, none in this machine, or not built for it
        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "mps"]
        there = ", ".join(devices[: None if torch.backends.mps.is_available() else -1])
        told = "cannot be used, it is not here or holds no numbers"
        raise HeterosegError(f"device {str(device)!r} {told}; this machine has {there}") from None
