# make setup   create .venv and install
# make demo    generate small street scenes, train on three datasets at once, evaluate, predict, report
# make test    the test suite
# make lint    ruff, mypy, import layers
# make docs    the documentation site, in site/
# make compare       all ways to join the four real datasets, two seeds, short (80 minutes and more, 2 cores)
# make compare-full  the same at length, for a GPU
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest
# Ray and the exported networks' runtimes get a process of their own: see docs/log.md, 2026-11-27
APART := tests/inference/test_collection.py tests/export/test_export.py

.PHONY: setup demo test lint docs real compare compare-full

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
	$(PYTEST) -n 2 $(APART:%=--ignore=%)
	for file in $(APART); do $(PYTEST) $$file || exit 1; done

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/mkdocs build --strict --quiet

# One network from the four real datasets (see ../shared/data), about 80 minutes on 2 cores.
real: setup
	$(BIN)/heteroseg train experiments/real.yaml --out runs/real

# See docs/results.md. Both go on where they were stopped.
compare: setup
	$(BIN)/heteroseg compare experiments/real.yaml --out runs/compare --seeds 2 --jobs 2 \
		train.steps=400 train.batch=8 'train.crop=[192, 192]' train.ema=0.99 optimiser.warmup=50 train.workers=0

compare-full: setup
	$(BIN)/heteroseg compare experiments/real.yaml --out runs/compare-full --seeds 3 \
		train.steps=10000 train.batch=24 'train.crop=[384, 384]' train.workers=8 train.precision=bf16
