"""The commands of the command line: each module holds functions that parse, call and print, and `add`, their options.

Everything heavy is imported by the command that needs it, so `--help` answers at once.
"""
