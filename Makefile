# Two commands are enough, `make demo` and `make test`: each first makes the environment that it needs, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint types thorough fuzz mutants mutants-python bench docs clean

demo: $(VENV)/installed
	$(BIN)/clickmart demo

# The tests of Spark share one session, and so one process.
test: lint types
	$(BIN)/python -m pytest -m 'not spark' --numprocesses logical --maxprocesses 4 --dist worksteal
	$(BIN)/python -m pytest -m spark

# The properties with thousands of examples each and the faults by the hundred, which takes two hours.
thorough: setup
	$(BIN)/python -m pytest tests/test_laws.py tests/test_faults*.py tests/test_bad_input.py tests/test_spark_loader.py --thorough

# Files made by a coverage-guided fuzzer, for ten minutes; longer: make fuzz FUZZ=-max_total_time=3600
FUZZ ?= -max_total_time=600
fuzz: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python tests/fuzz_load.py $(FUZZ)

# Every small change of the SQL, and which the tests let pass, which takes hours; a part: make mutants MUTANTS='--sample 100'
mutants: setup
	cd tests && PYTHONPATH=. ../$(BIN)/python -m mutants $(MUTANTS)

# The same of the runner: make mutants-python MUTANTS='--sample 300 --seed 1', or MUTANTS=statements for a module
mutants-python: setup
	cd tests && PYTHONPATH=. ../$(BIN)/python -m mutants.runner $(MUTANTS)

# The figures of docs/performance.md, which take an hour or more at full size; less: make bench BENCH='--events 100000'
bench: $(VENV)/installed-bench
	$(VENV)/bench/bin/python -m bench $(BENCH)

# docs/schema.md, printed from the comments in the database, and docs/cli.md, from --help.
docs: setup
	$(BIN)/python docs/build.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/sqlfluff lint --disable-progress-bar migrations sql bench/sql
	$(BIN)/sqlfluff lint --disable-progress-bar --templater raw dashboards

types: setup
	$(BIN)/mypy

setup: $(VENV)/installed-dev

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# Apart from the rest, since what the bench compares with needs other releases than the linters do.
$(VENV)/installed-bench: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
