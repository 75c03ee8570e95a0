"""For authors of backends: an in-memory backend to read, and images to test with."""
