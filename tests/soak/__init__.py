"""Hours of mixed traffic, with restarts of everything that a server works with and of the server itself."""
