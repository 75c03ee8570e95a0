"""What an operator gets besides the command itself: units, manual, completion, dashboards; how it is written out."""
