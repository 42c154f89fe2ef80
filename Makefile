# Every target sets up what it needs in .venv. Overridable:
#   make test TORCH="torch==2.9.1"      any pip requirement, or the path of a wheel
#   make test PYTHON=python3.12
#   make test WORKERS=0            one test after the other, in one process
TORCH   ?= torch==2.13.0
PYTHON  ?= python3
WORKERS ?= 2
ARGS    ?=

VENV  := .venv
PY    := $(VENV)/bin/python
READY := $(VENV)/ready-$(subst /,_,$(firstword $(TORCH)))

.PHONY: help setup test demo bench pictures screens docs mutants lint archive clean

help:
	@echo "make test    the library, the mini world, and a real ComfyUI where COMFYUI_PATH says"
	@echo "make demo    writes the demo report and says where"
	@echo "make bench   measures; ARGS='SECTION ...' for some sections only"
	@echo "make pictures fetches free pictures by package for the real sections of make bench, with their licences"
	@echo "make screens draws the pictures of nodes and workflows anew; ARGS='NUMBER ...' for some workflows only"
	@echo "make docs    the documentation as a static site, in build/docs/html"
	@echo "make mutants puts small faults into reno, safety, rewards and latents; ARGS='--wings reno --count 50' for fewer"
	@echo "make lint    ruff and pyright, and the names of comfy in the ComfyUIs of COMFYUI_PATH or ~/comfyui*/"
	@echo "make archive builds what the registry gets, in dist/"

setup: $(READY)

# torch first and again beside the rest, so that no other package chooses its version. Of open_clip_torch only
# the vocabulary file is read, so what it depends on stays away.
$(READY): pyproject.toml
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) with $(TORCH) ..."
	@$(PY) -m pip install -qq --disable-pip-version-check $(TORCH)
	@$(PY) -m pip install -qq --disable-pip-version-check --editable ".[test]" $(TORCH)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps open_clip_torch
	@rm -f $(VENV)/ready-*
	@touch $@

test: $(READY)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest --numprocesses=$(WORKERS) $(ARGS)

demo: $(READY)
	@$(PY) -m lclip demo $(ARGS)

pictures: $(READY)
	@$(PY) -m pip install -qq --disable-pip-version-check --editable ".[pictures]" $(TORCH)
	@$(PY) -m benchmarks.real pictures

screens: $(READY)
	@PYTHONPATH=. $(PY) tests/host/screens.py $(ARGS)

docs: $(READY)
	@$(PY) -m pip install -qq --disable-pip-version-check --editable ".[docs]" $(TORCH)
	@$(PY) docs/site/build.py

bench: $(READY)
	@$(PY) -m benchmarks $(ARGS)

mutants: $(READY)
	@$(PY) -m pip install -qq --disable-pip-version-check --editable ".[mutants]" $(TORCH)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) release/mutants.py $(ARGS)

lint: $(READY)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pyright --pythonpath $(PY)
	@$(PY) release/host_imports.py

archive: $(READY)
	@$(PY) release/archive.py $(ARGS)

clean:
	rm -rf $(VENV) build dist demo-report *.egg-info .pytest_cache .ruff_cache .hypothesis
