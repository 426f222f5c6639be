# make setup   create .venv and install
# make demo    (in .venv-demo, which has what it needs alone) generate small street scenes, train on three datasets at once, evaluate, predict, report
# make demo-model    train the network of `heteroseg demo --quick` anew, about a quarter of an hour
# make test    the test suite, and the examples in the docstrings
# make test-lowest   a part of it with the lowest versions that pyproject.toml allows
# make test-plain    a part of it without extras
# make examples      random examples, others in every run, for about a minute
# make fuzz    these, and every attack and kill of tests/reliability, for an hour or two; make fuzz SEED=7 repeats one run
# make lint    ruff, mypy, import layers
# make docs    the documentation site, in site/; .venv/bin/mkdocs serve shows it (search and colours want http)
# make compare       all ways to join the four real datasets, two seeds, short (80 minutes and more, 2 cores)
# make compare-long  the default recipe at its own length beside three ways and the specialist for signs (a day of 2 cores, in pieces)
# make compare-full  all ways at length, for a GPU
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
QUIET := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
PYTEST := $(QUIET) $(BIN)/python -m pytest
# Ray and the exported networks' runtimes get a process of their own: see docs/log.md, 2026-11-27
APART := tests/inference/test_collection.py tests/export/test_export.py

# What runs in a few minutes with other packages than those of today
CORE := $(addprefix tests/,labels datasets experiment supervision networks decisions model evaluation)
SEED := $(shell $(PYTHON) -c 'import secrets; print(secrets.randbelow(2**32))')

.PHONY: setup demo demo-model test test-lowest test-plain examples fuzz lint docs real compare compare-long compare-full

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: .venv-demo/.installed
	.venv-demo/bin/heteroseg demo

demo-model: setup
	$(QUIET) $(BIN)/python benchmarks/demo_model.py --work runs/demo-model

.venv-demo/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[plots]'
	touch $@

test: setup
	$(PYTEST) -n 2 $(APART:%=--ignore=%)
	for file in $(APART); do $(PYTEST) $$file || exit 1; done
	$(PYTEST) --doctest-modules src/heteroseg

test-lowest: .venv-lowest/.installed
	$(QUIET) .venv-lowest/bin/python -m pytest -n 2 $(CORE) tests/training

test-plain: .venv-plain/.installed
	$(QUIET) .venv-plain/bin/python -m pytest -n 2 $(CORE) tests/cli tests/curation tests/inference
	$(QUIET) .venv-plain/bin/python -m pytest --doctest-modules --doctest-ignore-import-errors src/heteroseg

# Not `words`, which needs numpy 2
.venv-lowest/.installed: pyproject.toml constraints.txt .ci/lowest.py
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints.txt --constraint .venv-lowest/lowest.txt \
		--editable '.[test,hf,lora,plots,onnx,openvino,huggingface]'
	touch $@

.venv-plain/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-plain
	.venv-plain/bin/python -m pip install --quiet --upgrade pip
	.venv-plain/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

examples: setup
	@echo "make examples SEED=$(SEED)"
	$(PYTEST) -n 2 -m hypothesis --hypothesis-profile=random --hypothesis-seed=$(SEED) $(CORE) tests/training \
		tests/curation

fuzz: examples
	@echo "make fuzz SEED=$(SEED)"
	FUZZ=1 SEED=$(SEED) $(PYTEST) tests/reliability
	FUZZ=1 $(PYTEST) tests/networks/test_contract.py tests/evaluation/test_promised.py

lint: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/mkdocs build --strict --quiet

# The four real datasets, as docs/real-data.md lays them out: make real DATA=FOLDER
DATA ?= data
PLACE := data_root=$(abspath $(DATA))

# One network from all of them, about 50 minutes on 2 cores with nothing else on them. Goes on where it was stopped.
real: setup
	$(BIN)/heteroseg train experiments/real.yaml --out runs/real $(PLACE) $(if $(wildcard runs/real/*),--resume)

# See docs/results.md. All three go on where they were stopped.
compare: setup
	$(BIN)/heteroseg compare experiments/real.yaml --out runs/compare --seeds 2 --jobs 2 \
		$(PLACE) train.steps=400 train.batch=8 'train.crop=[192, 192]' train.ema=0.99 optimiser.warmup=50 train.workers=0

# Ways in one folder, with as many seeds as each is worth
LONG := $(BIN)/heteroseg compare experiments/real.yaml --out runs/compare-long --jobs 2 $(PLACE) train.workers=0
compare-long: setup
	$(LONG) --ways hierarchical --seeds 2
	$(LONG) --ways concat,flat,per_dataset,specialists-gtsdb

compare-full: setup
	$(BIN)/heteroseg compare experiments/real.yaml --out runs/compare-full --seeds 3 \
		$(PLACE) train.steps=10000 train.batch=24 'train.crop=[384, 384]' train.workers=8 train.precision=bf16
