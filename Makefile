# make demo: everything from simulated exposures to figures; make test: the whole test suite;
# make check: style, types and the tests that need neither other processes nor networks, in minutes.
# Only Python >= 3.11, make and git are needed: the rest goes into the virtual environment .venv.

PYTHON ?= $(firstword $(foreach v,3.13 3.12 3.11 3.14,$(if $(shell python$(v) -c "import venv" 2>/dev/null && echo yes),python$(v))) python3)
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo
TORCH ?= torch==2.13.0
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

EXTRAS ?= test,docs,megara,deep

# tests run in so many processes, and what they call stays in one thread of each
JOBS ?= 2
THREADS = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST = $(THREADS) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
QUICK = not (browser or networks or slow or subprocess or window)

# interpreters that are not on the path are looked for where pyenv puts them
find = $(firstword $(if $(shell python$(1) -c "import venv" 2>/dev/null && echo yes),python$(1)) \
    $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python))

.PHONY: demo test check lint types docs coverage test-3.13 test-oldest other clean

demo: $(VENV)/.installed
	@rm -rf $(DEMO)
	@$(BIN)/crdetect simulate $(DEMO)
	cd $(DEMO) && $(abspath $(BIN))/numina run obs.yaml -r control.yaml
	@echo
	@echo "masks:           $(DEMO)/obsid1_results/crmasks.fits"
	@echo "combined frames: $(DEMO)/obsid1_results/combined_*.fits"
	@echo "figures, tables: $(DEMO)/obsid1_work/diagnostic_*.png, mediancr_identified_*.csv"
	@$(BIN)/crdetect score $(DEMO)/obsid1_results/crmasks.fits $(DEMO)/truth.fits

test: $(VENV)/.installed-test
	$(PYTEST)

check: lint types
	$(PYTEST) -m "$(QUICK)"

# without networks: for other versions of Python their packages take gigabytes
SELECT ?= not networks

test-3.13:
	$(MAKE) other VENV=.venv-3.13 PYTHON=$(call find,3.13)

# with the oldest versions that pyproject.toml claims: pictures are those of the newest ones, and
# newer packages below the old ones warn
test-oldest:
	$(call find,3.11) .ci/oldest.py megara > .oldest.txt
	PIP_CONSTRAINT=.oldest.txt $(MAKE) other VENV=.venv-oldest PYTHON=$(call find,3.11) \
	    IGNORED="--ignore=tests/test_images.py -o filterwarnings=default"

other: EXTRAS = test,megara
other: TORCH =
other: $(VENV)/.installed-test
	$(PYTEST) -m "$(SELECT)" --ignore=tests/test_docs.py $(IGNORED)

coverage: $(VENV)/.installed-test
	$(PYTEST) --cov --cov-report=term:skip-covered

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m numpydoc lint $$(git ls-files 'crdetect/*.py')

types: $(VENV)/.installed-test
	$(BIN)/python -m mypy

docs: $(VENV)/.installed-test
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) .venv-3.13 .venv-oldest .oldest.txt $(DEMO) docs/_build build *.egg-info

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(PIP) -e .
	@touch $@

# torch first and by version: what the extra deep would choose may be gigabytes larger
$(VENV)/.installed-test: $(VENV)/.installed
	$(if $(TORCH),$(PIP) $(TORCH))
	$(PIP) -e ".[$(EXTRAS)]"
	@touch $@
