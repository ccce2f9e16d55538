# make run · make test · make slow · make lab · make bench · make lint: each starts from nothing.
#
#   make run                      every notebook in the profile smoke: minutes, no download
#   make run NOTEBOOK=02          one notebook
#   make run PROFILE=cpu          the whole data set: minutes to an hour and a half (or PROFILE=gpu)
#   make run OUT=/tmp/executed    where the executed notebooks go, in place of build/notebooks
#   make test PYTHON=python3.12   the interpreter that .venv is made with
#
# Now and then, with a network: make drift (what Colab and Kaggle ship; PLATFORM=colab for one of
# them), make ways PLATFORM=colab DATA=folder (one notebook alone there, however it gets the course)
# and make links (are the archives of the data sets still there?).

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip
UNIT := $(PY) -m pytest -n auto --dist worksteal --ignore=tests/benchmarks tests
# JupyterLab serves what lies below its root: the pages link to records and other pages.
LAB := --LabApp.default_url=/lab/tree/notebooks
NBVAL := COURSE_PROFILE=smoke $(PY) -m pytest -n auto --dist loadscope --nbval --nbval-current-env notebooks

# A missing, half-made or unfit environment is made again; a whole one is left alone.
CHECK := import pip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
WHOLE := $(shell $(PY) -c '$(CHECK)' 2>/dev/null && echo yes)
REQUIREMENTS := requirements.txt pyproject.toml $(if $(WHOLE),,environment)

.PHONY: run test slow lab bench drift ways links lint unit nbval environment

run: $(VENV)/run.stamp
	$(PY) notebooks/run.py $(if $(PROFILE),--profile "$(PROFILE)") $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)") $(if $(OUT),--out "$(OUT)")

lab: $(VENV)/run.stamp
	$(PY) -m jupyterlab $(LAB) $(if $(filter 0,$(shell id -u)),--allow-root)  # root: a container

# The tests wait now and then, for processes and the disk; the notebooks compute in the meantime.
test: lint
	@$(MAKE) --no-print-directory --jobs=2 unit nbval

lint: $(VENV)/test.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

unit: $(VENV)/test.stamp
	$(UNIT)

nbval: $(VENV)/test.stamp
	$(NBVAL)

slow: $(VENV)/test.stamp
	$(UNIT) -m slow

bench: $(VENV)/test.stamp
	$(PY) -m pytest tests/benchmarks

drift:
	"$(PYTHON)" tests/platforms/drift.py $(PLATFORM)

ways:
	"$(PYTHON)" tests/platforms/ways.py $(PLATFORM) $(if $(DATA),--data "$(DATA)")

links: $(VENV)/run.stamp
	$(PY) -m course_lib.data.links

# The stamp comes last: after a failed install there is none, and the next call tries again.
$(VENV)/run.stamp: $(REQUIREMENTS)
	@rm -f $@
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps -e .
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt $(REQUIREMENTS)
	@rm -f $@
	$(PIP) install -r requirements-dev.txt
	$(PIP) install --no-deps -e .
	@touch $@

environment:
	@"$(PYTHON)" -c '' || { echo "No Python at '$(PYTHON)'. Install Python 3.11 to 3.14, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "The course needs Python 3.11 to 3.14 (its code needs 3.11, and Albumentations two packages that are not built for 3.15 yet, stringzilla and simsimd), and this is $$("$(PYTHON)" --version). Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@rm -f $(PY) $(VENV)/bin/python3*
	"$(PYTHON)" -m venv $(VENV)
