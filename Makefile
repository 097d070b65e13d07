# `make` lists the targets. Each sets up what it needs: a virtual environment in .venv, with the
# versions in constraints.txt. Variables to override: PYTHON, JOBS, TESTS, SUITES; BASE, FACTOR, BENCH.

PYTHON ?= python3
JOBS ?= 2
TESTS ?= tests
SUITES ?= $(patsubst results/%/cells,%,$(wildcard results/*/cells))
BASE ?= main~1
FACTOR ?= 1.3
BENCH ?= .

VSML_BENCH = .venv/bin/vsml-bench
PIP_INSTALL = .venv/bin/python -m pip install -qq --no-input --disable-pip-version-check
WITH_PINS = -c constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install reference leaderboard results site test smoke smoke-paper lint format readme lock clean
.PHONY: fuzz torture torture-dask scale speed growth gpu profile asv asv-compare asv-pages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: .venv/.installed ## set up .venv, with the versions in constraints.txt

# hatchling comes first and builds without isolation, so that it is the pinned one as well. The last
# step compiles the C++ code, for which the first run of VSML would have to wait otherwise.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	    echo "vsml-bench needs Python 3.10 or newer, which '$(PYTHON)' is not;" \
	         "name one, as in: make PYTHON=python3.12" >&2; exit 1; }
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (PyTorch is large: minutes, the first time) ..."
	@$(PIP_INSTALL) $(WITH_PINS) hatchling
	@$(PIP_INSTALL) $(WITH_PINS) --no-build-isolation -e '.[dev]'
	@{ $(build_learn2learn); } || echo "Could not build learn2learn, the reference for MAML, so learners" \
	    "that need it will be unavailable; all else works. 'make reference' shows why."
	@.venv/bin/python -c 'from vsml_bench.vsml.fast import library; library.load()'
	@touch $@
	@echo "Installed."

reference: .venv/.installed ## build learn2learn, the reference that MAML is checked against
	@$(build_learn2learn)

# The newest release of learn2learn ships C code that Python 3.11 and newer refuse. So it is made
# again from its Cython sources, which its setup.py does only if told to build_ext, and which need an
# older Cython and setuptools than the pinned ones; these stay in a folder of their own. vsml-bench
# uses nothing of the C code, and to optimise it would only take time.
define build_learn2learn
.venv/bin/python -c 'import learn2learn' 2>/dev/null || { \
    echo "Building learn2learn ..."; \
    tools=$$(mktemp -d); trap 'rm -rf "$$tools"' EXIT; \
    $(PIP_INSTALL) --target "$$tools" cython==0.29.37 setuptools==80.9.0 wheel==0.45.1 && \
    export PYTHONPATH="$$tools" CYTHON_FORCE_REGEN=1 CFLAGS=-O0 && \
    $(PIP_INSTALL) $(WITH_PINS) --no-build-isolation -e '.[reference]' && \
    $(PIP_INSTALL) --no-deps --no-build-isolation --use-pep517 \
        --config-settings=--global-option=build_ext learn2learn==0.2.0; }
endef

# Failed cells (exit code 1) are rows of the board, so it is shown before the failure is passed on.
define run_and_show
$(VSML_BENCH) run --suite $(1); status=$$?; test $$status -le 1 || exit $$status; \
    $(VSML_BENCH) leaderboard --suite $(2) --write && exit $$status
endef

# Data goes to the folder that VSML_BENCH_DATA names, or to runs/data.
leaderboard: export VSML_BENCH_DATA := $(or $(VSML_BENCH_DATA),$(CURDIR)/runs/data)
leaderboard: .venv/.installed ## fetch data, run the desk suite into runs/desk, print its board, make its page
	@$(VSML_BENCH) data fetch --best-effort fashion_mnist mnist
	@$(call run_and_show,desk,desk --compare published)

# What a suite would take is printed before it runs. A run goes on where the last one ended.
results: export VSML_BENCH_DATA := $(or $(VSML_BENCH_DATA),$(CURDIR)/runs/data)
results: .venv/.installed ## train, run and rank what is missing of the published suites (SUITES=desk for some)
	@for suite in $(SUITES); do \
	    $(VSML_BENCH) plan --suite $$suite && \
	    $(VSML_BENCH) run --suite $$suite --out results/$$suite --jobs $(JOBS); status=$$?; \
	    test $$status -le 1 || exit $$status; \
	    $(VSML_BENCH) leaderboard --suite $$suite --results results/$$suite --write >/dev/null || exit; \
	done

site: .venv/.installed ## make pages of all published boards, with an index, in runs/site
	@.venv/bin/python -m tools.site runs/site

# One thread a worker: more would only compete for the same cores.
test: .venv/.installed ## run the tests (TESTS=tests/data for some of them)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
	    .venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

smoke: .venv/.installed ## run the smoke suite from nothing to a board
	@$(call run_and_show,smoke --policy always,smoke)

# All learners, on splits of which two need no data, and one is unavailable without MNIST.
smoke-paper: .venv/.installed ## run splits of the paper on two Dask workers, with a thousandth of its budgets
	@$(VSML_BENCH) run --suite paper --scale 0.001 --seed 0 --split paper/random-to-random \
	    --split paper/random-to-sum_sign --split paper/mnist-to-random \
	    --executor dask --jobs 2 --device cpu --policy always --quiet

torture-dask: .venv/.installed ## kill workers and drivers of a Dask cluster 50 times, into results/faults
	@OMP_NUM_THREADS=1 .venv/bin/python -m tools.torture_dask

fuzz: .venv/.installed ## give 2,000 malformed inputs to the command line, print how it answers
	@OMP_NUM_THREADS=1 .venv/bin/python -m tools.fuzz

torture: .venv/.installed ## kill commands 100 times, print what is left (20 minutes)
	@OMP_NUM_THREADS=1 .venv/bin/python -m tools.torture --jobs $(JOBS)

lint: .venv/.installed ## check format, lint and types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

format: .venv/.installed ## format the code and fix what the linter can fix
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

speed: .venv/.installed ## measure speed beside the references, into results/speed (10 minutes)
	@.venv/bin/python -m benchmarks.speed

scale: .venv/.installed ## measure what an engine costs per task, into results/scale (5 minutes)
	@OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.scale

growth: .venv/.installed ## measure how time and memory grow with sizes, into results/speed
	@.venv/bin/python -m benchmarks.growth

gpu: .venv/.installed ## measure VSML on a CUDA GPU, into results/speed (5 minutes)
	@.venv/bin/python -m benchmarks.gpu

profile: .venv/.installed ## draw where the time goes, into results/speed
	@.venv/bin/python -m benchmarks.profile

# asv would store the host's name; a machine is called after its CPU. It keeps results of an existing
# environment only where it is told which commit they are of.
WITH_ASV = PATH="$(CURDIR)/.venv/bin:$$PATH"
ASV = $(WITH_ASV) asv
define know_the_machine
machine="$$(.venv/bin/python -m benchmarks.asv name)" && \
    $(ASV) machine --machine "$$machine" --yes >/dev/null
endef

asv: .venv/.installed ## run the asv suite in .venv and store what it finds of this commit
	@test -z "$$(git status --porcelain --untracked-files=no)" || { \
	    echo "Commit your changes first: asv stores results by commit." >&2; exit 1; }
	@$(know_the_machine) && \
	$(ASV) run --machine "$$machine" --environment existing:"$(CURDIR)/.venv/bin/python" \
	    --set-commit-hash "$$(git rev-parse HEAD)" --bench '$(BENCH)'
	@.venv/bin/python -m benchmarks.asv forget results/speed/history

# Of all benchmarks, those of compile seconds are left out: one measurement each, of which some are over
# in milliseconds, has no noise that asv could know.
asv-compare: GATED = $(if $(filter .,$(BENCH)),^(?!.*compile_seconds),$(BENCH))
asv-compare: .venv/.installed ## build BASE and HEAD, and fail where HEAD is slower beyond noise
	@$(know_the_machine) && \
	$(WITH_ASV) .venv/bin/python -m benchmarks.asv compare --bench '$(GATED)' \
	    --machine "$$machine" --factor $(FACTOR) "$$(git rev-parse '$(BASE)')" "$$(git rev-parse HEAD)"

asv-pages: .venv/.installed ## make web pages of the stored results, in results/speed/pages
	@$(ASV) publish
	@cp .venv/lib/python*/site-packages/asv-*.dist-info/licenses/LICENSE.rst results/speed/pages/

readme: .venv/.installed ## copy columns of the published board into README.md, draw its picture
	@.venv/bin/python -m tools.update_readme

lock: .venv/.installed ## bring constraints.txt up to the newest versions, for all Pythons
	@$(PIP_INSTALL) uv
	@{ echo '# Written by `make lock`; see pyproject.toml for what is needed and why.'; \
	    .venv/bin/uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 \
	        --no-annotate --no-header --no-emit-index-url --no-python-downloads; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove caches and built files; .venv and runs/ stay
	@rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .asv
	@find vsml_bench baselines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
