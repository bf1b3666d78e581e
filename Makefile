# Targets that people call; each installs what it needs into .venv, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
ARGS ?=
DATA := $(or $(CONTRAREC_DATA),../shared/data)
REPORTS := runs/reports

# Three reports on one data set: name, where it is, seeds, settings of the comparison.
define report
$(BIN)/contrarec audit $(2) --seeds $(3) --out $(REPORTS)/$(1)-audit --report
$(BIN)/contrarec compare $(2) --seeds $(3) --methods infonce,advinfonce,bpr,popularity \
  $(4) --out $(REPORTS)/$(1)-comparison --report
$(BIN)/contrarec report $(REPORTS)/$(1)-audit/mf-advinfonce-0 --out $(REPORTS)/$(1)-run.html
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint fmt bench reports docs clean

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

install: $(VENV)/base.stamp  ## make .venv and install contrarec in it

demo: $(VENV)/base.stamp  ## the main job on a generated world
	$(BIN)/contrarec demo $(ARGS)

test: $(VENV)/dev.stamp  ## run the tests (ARGS='-k words' picks some)
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp  ## style, types and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	$(BIN)/codespell

fmt: $(VENV)/dev.stamp  ## rewrite the code in house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/base.stamp  ## time the hot paths in short (ARGS='kernels' for the record of some)
	$(BIN)/python -m benchmarks.run $(or $(ARGS),--short)

# What `data synth` makes is kept: the audit goes on with the runs that it finds.
reports: $(VENV)/report.stamp  ## audit Coat, Yahoo! R3 (in CONTRAREC_DATA) and a generated world into runs/reports
	test -d $(REPORTS)/world || $(BIN)/contrarec data synth --out $(REPORTS)/world
	$(call report,coat,$(DATA)/coat,5,--preset coat)
	$(call report,yahoo-r3,$(DATA)/yahoo-r3,2,--set lr=2e-3 --set epochs=20)
	$(call report,world,$(REPORTS)/world,5,--set lr=2e-3 --set epochs=40)

docs: $(VENV)/docs.stamp  ## build the pages into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove .venv and everything that is built
	rm -rf $(VENV) site dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp is newer than what it was installed from, so nothing is installed twice.
$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/base.stamp $@

$(VENV)/report.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[report]'
	@touch $(VENV)/base.stamp $@

$(VENV)/docs.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $(VENV)/base.stamp $@

# Where Python comes without ensurepip (Debian's python3 alone), its pip fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "contrarec needs Python 3.11 or newer and $(PYTHON) is " + sys.version.split()[0] + "; name another: make install PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $@ install --disable-pip-version-check pip; }
