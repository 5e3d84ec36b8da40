# Two commands are all the set-up there is:
#   make demo    install into .venv, train MITP on the embedded data, print and draw the comparison
#   make test    install into .venv, run the tests (a few minutes on two cores)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-all test-bits footprint docs check lint format clean

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/interplay demo --out demo-out

# One thread a process, one process a core: two cores take half the time.
BITWISE := tests/test_contract.py tests/gallery tests/lpi tests/train
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)
	$(PYTEST)

# What is promised bit for bit, on kernels that other processors would pick, on one thread and on two.
test-bits: $(INSTALLED)
	for kernels in "MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default" "MKL_CBWR=AVX2 ATEN_CPU_CAPABILITY=avx2" ""; do \
		for threads in 1 2; do echo "$$kernels OMP_NUM_THREADS=$$threads"; \
			env $$kernels OMP_NUM_THREADS=$$threads OMP_WAIT_POLICY=PASSIVE \
				$(BIN)/python -m pytest -m "bitwise and not slow" $(BITWISE) || exit 1; \
		done; done

# CPU time of commands before they do anything, beside its targets.
footprint: $(INSTALLED)
	$(BIN)/python -m benchmarks.footprint

# The documentation site, in site/: any warning is an error, links to places that are not there included.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build
	$(BIN)/python -m scripts.site.offline site

lint: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix src tests benchmarks scripts
	$(BIN)/ruff format src tests benchmarks scripts

check: lint test

clean:
	rm -rf $(VENV) build dist site demo-out .pytest_cache .mypy_cache .ruff_cache
