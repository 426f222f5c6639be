"""The page about the command line has every command with every argument, and says of them what the help says.

`python -m tests.docs.test_commands_page` writes it anew.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from heteroseg.cli.main import build_parser

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD, ROWS = "| command | what it does |\n", "|---|---|\n"


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The commands below a parser."""
    for action in parser._actions:
        for below in action.choices.values() if isinstance(action, argparse._SubParsersAction) else ():
            yield from list(commands(below)) or [below]


def written(action: argparse.Action) -> str:
    """An argument as it is typed."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    value = str(action.metavar or choices)
    shape = {"+": f"{value} ...", "*": f"[{value} ...]", "?": f"[{value}]", 0: ""}.get(action.nargs, value)
    return " ".join([*action.option_strings[:1], shape]).strip()


def section(command: argparse.ArgumentParser) -> str:
    told = f"\n## {command.prog}\n{command.description}\n\n| argument | what it means |\n{ROWS}"
    for action in sorted(command._actions, key=lambda action: bool(action.option_strings)):
        if action.dest != "help":
            meaning = command._get_formatter()._expand_help(action).replace("|", "\\|")
            needed = " (required)" if action.required and action.option_strings else ""
            told += f"| `{written(action)}` | {meaning}{needed} |\n"
    return told


def page() -> str:
    """What follows the head of the page."""
    parser = build_parser()
    listed = list(commands(parser))
    assert {command.prog.split()[0] for command in listed} == {parser.prog}
    rows = [f"| [`{c.prog.partition(' ')[2]}`](#{c.prog.replace(' ', '-')}) | {c.description} |\n" for c in listed]
    return HEAD + ROWS + "".join(rows) + "".join(map(section, listed))


def test_every_command_is_on_the_page_with_every_argument():
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(HEAD)[1:] == (HEAD, page().removeprefix(HEAD)), "python -m tests.docs.test_commands_page"


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").partition(HEAD)[0] + page(), encoding="utf-8")
