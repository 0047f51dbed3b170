# Every target makes .venv first, from requirements.lock, unless it is there already.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
# Notebook kernels talk over local sockets.
export JUPYTER_PLATFORM_DIRS := 1
# What a reader has set for Python and JAX is not meant for this book; what its notebooks see is in tools/kernels.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONHASHSEED
# Without files of bytecode, each of the many processes below compiles its own JAX, for some seconds.
unexport PYTHONDONTWRITEBYTECODE
export JAX_PLATFORMS := cpu

# As many tests beside each other as there are cores; but each takes memory, up to a few GB.
workers := -n auto --maxprocesses 4

# Two folders to build in, so that no target takes away what another made or works with.
BOOK := _build/book
TEST := _build/test

.PHONY: help environment book html pdf serve lab test test-pages lint format notebooks newest studies determinism bench bench-check mutants lock clean
.DEFAULT_GOAL := help

# $(call timed,what,command,advice): run a step, say how long it took, or what to do when it failed.
timed = @$(BIN)/python tools/step.py '$@' '$(1)' '$(3)' $(2)

# $(call alone,folder): go on if no other make works in the folder. make is this shell's parent.
alone = @$(BIN)/python tools/alone.py $(1) $$PPID

# $(call stage,folder): the book is built from a copy, so that executing it leaves the sources alone.
stage = @rm -rf $(1)/source && mkdir -p $(1)/source && cp -r _config.yml _toc.yml book $(1)/source/

# $(call render,folder,output): the pages go to OUTPUT/_build/html.
render = $(BIN)/jupyter-book build -W -n --keep-going --quiet --path-output $(2) $(1)/source

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

book: environment  ## execute every notebook from its raw inputs and render the results
	$(call alone,$(BOOK))
	$(call stage,$(BOOK))
	$(call timed,notebooks,$(BIN)/python tools/notebooks.py $(BOOK)/source/book $(BOOK),The cell and its error are shown above.)
	$(call timed,pages,$(call render,$(BOOK),.),Each warning above names its file and line.)
	@echo "the book is in _build/html: make serve shows it"
	@cat $(BOOK)/moved.txt

html: environment  ## render the stored outputs, without executing anything
	$(call alone,$(BOOK))
	$(call stage,$(BOOK))
	$(call timed,pages,$(call render,$(BOOK),.),Each warning above names its file and line.)

pdf: environment  ## print the whole book into _build/pdf/book.pdf (needs Chromium)
	@test -e _build/html/index.html || $(MAKE) html
	$(call timed,pdf,$(BIN)/python tools/pdf.py _build/html _build/pdf/book.pdf,The cause is shown above.)

serve: ## show the built book on http://localhost:8000, or another PORT
	@test -e _build/html/index.html || { echo "there is no book yet: run make book" >&2; exit 1; }
	@$(PYTHON) tools/serve.py _build/html $(PORT)

lab: environment  ## open JupyterLab on the book
	$(BIN)/jupyter lab --notebook-dir=book

test: environment  ## library tests, every notebook against its stored outputs, the book without warnings
	$(call alone,$(TEST))
	@$(MAKE) --no-print-directory --jobs=2 lint test-pages
	$(call timed,library tests,$(BIN)/python -m pytest $(workers) lib tests --ignore=tests/browser,Each failure is shown above.)
	$(call timed,notebooks,$(nbval),If the change is meant: make notebooks.)
	$(call timed,browser,env PEERFLOW_PAGES=$(TEST)/_build/html $(BIN)/python -m pytest $(workers) --dist worksteal tests/browser,Each fault names its page and the width.)

# Beside lint, as each of the two keeps one core busy.
test-pages: environment
	$(call stage,$(TEST))
	$(call timed,pages,$(call render,$(TEST),$(TEST)),Each warning above names its file and line.)

lint: environment  ## the format, the habits and the types of the Python files
	$(call timed,lint,$(BIN)/python tools/lint.py,If it is the format or the order of imports: make format.)

format: environment  ## let ruff format the Python files and put their imports in order
	$(BIN)/python tools/lint.py --fix

newest: ## the library tests with the newest version of every package but neural-tangents, in .venv-newest
	@$(PYTHON) tools/newest.py
	.venv-newest/bin/python -m pytest $(workers) $(library_tests)

notebooks: environment  ## execute every notebook in place, and say which stored outputs moved
	$(call alone,_build/notebooks)
	$(call timed,notebooks,$(BIN)/python tools/notebooks.py book,The cell and its error are shown above.)

studies: environment  ## run the studies whose results chapters read, or those of STUDIES, and say which moved
	$(call timed,studies,$(BIN)/python tools/studies.py $(STUDIES),The cause is shown above.)

determinism: environment  ## every notebook with two threads, other processors' kernels and another hash seed
	$(call timed,two threads,env NOTEBOOK_ENVIRONMENT='$(TWO_THREADS) PYTHONHASHSEED=1' $(nbval),A result depends on how sums are split.)
	$(call timed,AVX2,env NOTEBOOK_ENVIRONMENT='OPENBLAS_CORETYPE=Haswell PYTHONHASHSEED=2' $(nbval),A result depends on the processor.)
	$(call timed,AVX,env NOTEBOOK_ENVIRONMENT='OPENBLAS_CORETYPE=Sandybridge PYTHONHASHSEED=3' $(nbval),A result depends on the processor.)

bench: environment  ## measure figures of speed, each a ratio in one run, with one thread and with two
	$(call timed,bench,$(BIN)/python benchmarks/run.py $(BENCH),A wrong answer or a broken script is named under the table.)

bench-check: environment  ## measure the same figures, and fail where one is 1.5 times worse than the stored one
	$(call timed,bench,$(BIN)/python benchmarks/run.py --check $(BENCH),Each figure that is worse is named under the table.)

mutants: environment  ## break the library in many small ways: tests and notebooks must notice each
	$(call timed,mutants,$(BIN)/python tools/mutants.py,Each that went unnoticed is listed above.)

lock: environment ## resolve requirements.lock and environment.yml anew from pyproject.toml (needs uv)
	$(BIN)/python tools/lock.py

clean: ## remove everything that was built, but not .venv
	rm -rf _build

# What kernels are given beside or instead of the settings in tools/kernels.
TWO_THREADS = OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 XLA_FLAGS=

# The rest of the tests is of the book and of what makes it.
library_tests = lib $(filter-out $(BOOK_TESTS:%=tests/test_%.py),$(wildcard tests/test_*.py))
BOOK_TESTS := badge benchmarks book_extension cover environment execution harness% lint map pages pdf words

# Every notebook is re-executed and held to its stored outputs: see book/conftest.py.
nbval = $(BIN)/python -m pytest $(workers) --nbval book

environment:
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON) here: name a Python 3.11 to 3.13, as in make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) tools/environment.py
