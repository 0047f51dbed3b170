# Every target makes .venv first, from requirements.lock, unless it is there already.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Notebook kernels talk over local sockets.
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: help book html serve lab test notebooks determinism mutants lock clean
.DEFAULT_GOAL := help

# $(call timed,what,command,advice): run a step, say how long it took, or what to do when it failed.
define timed
@start=$$(date +%s); $(2) || { echo "make $@: $(1) failed. $(3)" >&2; exit 1; }; \
echo "$(1): $$(( $$(date +%s) - start )) s"
endef

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

book: .venv/ready stage  ## execute every notebook from its raw inputs and render the results
	$(call timed,notebooks,$(BIN)/python tools/notebooks.py _build/source/book _build/source/book/execution.md,The cell and its error are shown above.)
	$(call timed,pages,$(render),Each warning above names its file and line.)
	@echo "the book is in _build/html: make serve shows it"

html: .venv/ready stage  ## render the stored outputs, without executing anything
	$(call timed,pages,$(render),Each warning above names its file and line.)

serve: ## show the built book on http://localhost:8000
	@test -e _build/html/index.html || { echo "there is no book yet: run make book" >&2; exit 1; }
	$(PYTHON) -m http.server 8000 --bind localhost --directory _build/html

lab: .venv/ready  ## open JupyterLab on the book
	$(BIN)/jupyter lab --notebook-dir=book

test: .venv/ready stage  ## library tests, every notebook against its stored outputs, the book without warnings
	$(call timed,library tests,$(BIN)/python -m pytest -n 2 lib tests --ignore=tests/browser,Each failure is shown above.)
	$(call timed,notebooks,$(ONE_THREAD) $(nbval),If the change is meant: make notebooks.)
	$(call timed,pages,$(render),Each warning above names its file and line.)
	$(call timed,browser,$(BIN)/python -m pytest -n 2 tests/browser,Each fault names its page and the width.)

notebooks: .venv/ready  ## execute every notebook in place, and say which stored outputs moved
	$(call timed,notebooks,$(BIN)/python tools/notebooks.py book,The cell and its error are shown above.)

determinism: .venv/ready  ## every notebook with two threads, other processors' kernels and another hash seed
	$(call timed,two threads,$(TWO_THREADS) PYTHONHASHSEED=1 $(nbval),A result depends on how sums are split.)
	$(call timed,AVX2,$(ONE_THREAD) OPENBLAS_CORETYPE=Haswell PYTHONHASHSEED=2 $(nbval),A result depends on the processor.)
	$(call timed,AVX,$(ONE_THREAD) OPENBLAS_CORETYPE=Sandybridge PYTHONHASHSEED=3 $(nbval),A result depends on the processor.)

mutants: .venv/ready  ## break the library in many small ways: tests and notebooks must notice each
	$(call timed,mutants,$(BIN)/python tools/mutants.py,Each that went unnoticed is listed above.)

lock: .venv/ready ## resolve requirements.lock and environment.yml anew from pyproject.toml (needs uv)
	$(BIN)/python tools/lock.py

clean: ## remove everything that was built, but not .venv
	rm -rf _build

# Two notebooks at once, one thread each: threads that compete for cores cost several times what they save.
ONE_THREAD = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false

TWO_THREADS = OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2

# Every notebook is re-executed and held to its stored outputs: see book/conftest.py.
nbval = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --nbval book

# The book is built from a copy, so that executing it leaves the sources alone.
.PHONY: stage
stage:
	@rm -rf _build/source && mkdir -p _build/source && cp -r _config.yml _toc.yml book _build/source/

render = $(BIN)/jupyter-book build -W -n --keep-going --quiet --path-output . _build/source

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	|| { echo "peerflow needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1): try make PYTHON=python3.12" >&2; exit 1; }
	@echo "making .venv from requirements.lock; this takes a minute or two"
	@$(PYTHON) -m venv .venv || { echo "no virtual environment could be made: install Python's venv module" >&2; exit 1; }
	$(call timed,environment,$(install),Is the package index reachable? Run make again to go on.)
	@touch $@

# Nothing is compiled ahead of use: that keeps the environment small.
install = $(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements.lock \
	&& $(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
