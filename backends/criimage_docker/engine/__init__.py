"""The Engine API: where it listens, what is asked and answered, how it spells names and words."""
