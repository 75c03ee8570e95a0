"""What a name means, and which registry may be asked for it, with which credentials and by which rules."""
