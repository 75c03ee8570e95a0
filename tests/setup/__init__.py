"""Installs what the tests and the demo need of a machine; runs on a bare Debian, with the standard library only."""
