# What can be done with a clone. Every target installs what it misses: as root by apt-get, otherwise it says what to ask for.

PYTHON ?= python3

.PHONY: help demo serve docs test check long attack bench soak deb clean

help:
	@echo "make demo    see it work: a registry, a store, the server and every command, then everything is gone again"
	@echo "make serve   the same, left running for you to try, until Ctrl-C"
	@echo "make docs    build these pages and the manual pages, look them over, and say where they are"
	@echo "make test    everything: lint, types, docs, and all tests against the real tools"
	@echo "make check   the quick part of it, which needs no container tools"
	@echo "make long    the tests that take minutes to hours; the last lines are a table for docs/long-runs.md"
	@echo "make attack  everything hostile against a server of each backend, in under ten minutes; ends with a table"
	@echo "make bench   how fast it is beside containerd, skopeo and the engine, in ten minutes; BENCH=--help tells more"
	@echo "make soak    an hour of mixed traffic with restarts of everything; SOAK=600 for so many seconds; ends with tables"
	@echo "make deb     packages for Debian 12 and 13, in build/deb"
	@echo "make clean   delete what these made in this folder"

demo serve docs test check long attack bench soak deb:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make $@ PYTHON=..."; exit 1; }
	@cd tests && exec $(PYTHON) -m setup $@ $(if $(filter bench,$@),$(BENCH)) $(if $(filter soak,$@),$(SOAK))

clean:
	rm -rf build dist docs/_build .tox .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
