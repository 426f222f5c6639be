"""The processes of a run, on the devices that it asks for, by lightning's Fabric."""

from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.utilities.exceptions import MisconfigurationException

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import TrainConfig
from heteroseg.training.optimiser import keep_freed_memory


def launch(config: TrainConfig) -> Fabric:
    """Start the processes of a run on the devices that it asks for."""
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[config.precision]
    where: Any = {"accelerator": config.accelerator, "devices": config.devices, "num_nodes": config.nodes}
    try:
        on_cpu = config.precision == "16" and Fabric(**where).device.type == "cpu"  # where Fabric takes bf16 instead
        how: Any = {"plugins": MixedPrecision("16-mixed", "cpu")} if on_cpu else {"precision": precision}
        fabric = Fabric(**where, **how)
    except (ValueError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise HeterosegError(f"train.accelerator, train.devices: {str(error).splitlines()[0]}") from None
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric
