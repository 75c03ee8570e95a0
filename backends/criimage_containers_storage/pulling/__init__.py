"""One pull: skopeo and how it is run, watched and understood, and what is done with what it leaves behind."""
