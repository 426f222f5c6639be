# make setup   create .venv and install
# make demo    generate small street scenes, train on three datasets at once, evaluate, predict, report
# make test    the test suite
# make lint    ruff, mypy, import layers
# make docs    the documentation site, in site/
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test lint docs real

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/heteroseg demo

test: setup
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/mkdocs build --strict --quiet

# One network from the four real datasets (see ../shared/data), about 80 minutes on 2 cores.
real: setup
	$(BIN)/heteroseg train experiments/real.yaml --out runs/real
