"""Pulls by the engine: credentials, messages, progress, failures."""
