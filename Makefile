PYTHON ?= python3
.PHONY: build
build: ## compile the extensions in place (one build at a time)
	@flock .venv/build.lock .venv/bin/python setup.py -q build_ext --inplace
