"""What a reader needs to know to repeat a run: when, where, with what."""

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("heteroseg", "torch", "transformers", "lightning-fabric", "numpy", "opencv-python-headless")


def _commit() -> str:
    """Commit of the source tree that runs, with a mark where it was changed; empty outside a checkout."""
    command, place = ["git", "describe", "--always", "--dirty", "--abbrev=12"], Path(__file__).resolve().parent
    try:
        return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # of Linux
    names = re.findall(r"^model name\s*: (.*)", info.read_text() if info.is_file() else "", re.M)
    return names[0].strip() if names else platform.processor() or platform.machine()


def facts(folder: Path | None = None) -> dict[str, str]:
    """Date, command, commit, machine and versions as text, and the folder that an experiment's paths start from."""
    result = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit() or "not in a checkout",
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        **({"paths start at": str(folder.resolve())} if folder else {}),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            result[package] = version(package)
        except PackageNotFoundError:
            result[package] = "not installed"
    import torch

    if torch.cuda.is_available():
        result["gpu"] = torch.cuda.get_device_name()
    return result
