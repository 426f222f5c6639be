"""Attacks, kills and forgeries: a short part in `make test`, all of it where FUZZ is set (`make fuzz`)."""

import os

WHOLE = bool(os.environ.get("FUZZ"))
SEED = int(os.environ["SEED"])  # of what is drawn; tests/conftest.py makes one and pytest's head tells it
