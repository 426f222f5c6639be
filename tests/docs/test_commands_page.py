"""The page about the command line has every command and says of it what its help says."""

import argparse
from pathlib import Path

from heteroseg.cli.main import build_parser

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def rows(parser: argparse.ArgumentParser) -> list[str]:
    """A row of the table for each command below a parser."""
    told = []
    for action in parser._actions:
        for below in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            name = below.prog.removeprefix("heteroseg ")
            told += rows(below) or [f"| `{name}` | {below.description} |"]
    return told


def test_every_command_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    missing = [row for row in rows(build_parser()) if row not in text]
    assert missing == [], "python -m tests.docs.test_commands_page writes the table anew"


if __name__ == "__main__":
    parser = build_parser()
    parser.prog = "heteroseg"
    head = PAGE.read_text(encoding="utf-8").partition("|---|---|\n")
    PAGE.write_text("".join(head[:2]) + "\n".join(rows(parser)) + "\n", encoding="utf-8")
