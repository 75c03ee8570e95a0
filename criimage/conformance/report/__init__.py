"""A run for people and for programs: text, JUnit, JSON and one HTML page."""
