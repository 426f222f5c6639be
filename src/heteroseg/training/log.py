"""The numbers of a run, for people and programs: log.csv and TensorBoard."""

import csv
from contextlib import suppress
from pathlib import Path
from typing import Any

from heteroseg.errors import warn
from heteroseg.model.run_folder import read_log
from heteroseg.writing import written


class Log:
    """Rows of numbers to RUN/log.csv (one per name, so that new names need no new columns) and, where it is installed,
    to TensorBoard.

    A resumed run goes on after its last saved step: later rows are taken out, as they will come again.
    """

    def __init__(self, out: Path, step: int):
        self.board: Any = None
        with suppress(ModuleNotFoundError):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)
        self.path = out / "log.csv"
        rows, faulty = read_log(self.path) if step else ([], 0)
        if faulty:
            warn(f"{self.path}: {faulty} lines are damaged and left out; the curves of the report lack them")
        with written(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            file.write("step,name,value\n")
            csv.writer(file, lineterminator="\n").writerows(row for row in rows if row[0] <= step)

    def write(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        with self.path.open("a", newline="", encoding="utf-8") as file:
            rows = ((step, k, f"{v:.6g}") for k, v in row.items() if k != "step")
            csv.writer(file, lineterminator="\n").writerows(rows)
        for name, value in row.items() if self.board else ():
            if name != "step":
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        if self.board:
            self.board.close()
