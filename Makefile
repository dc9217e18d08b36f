# Each target works from a fresh clone: it makes .venv and builds the extension when they are
# missing or out of date, and does nothing of the sort when they are not.

SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help install build demo test check peers bench docs wheel clean distclean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

install: ## make .venv with every pinned dependency
	@scripts/install

build: install ## compile the extension, incrementally
	@scripts/build

demo: build ## stock torch and corestream side by side on a real model
	@.venv/bin/python examples/demo/demo.py

test: build ## all tests, doctests and examples, and the native tests
	@scripts/test

check: install ## formats, lints, types, layering, sanitizers, AVX-512
	@scripts/check

peers: install ## the engines that the table compares with, each in its own venv
	@scripts/peers

bench: build peers ## the benchmarks
	@.venv/bin/python -m benchmarks

docs: build ## run every Python block of the documentation, follow every link
	@scripts/docs

wheel: install ## a wheel in dist/
	@scripts/wheel

clean: ## remove what was built
	@rm -rf build dist src/corestream/{*.so,_build.py,lib,include,cmake}
	@rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis

distclean: clean ## and .venv
	@rm -rf .venv .venv-peers
