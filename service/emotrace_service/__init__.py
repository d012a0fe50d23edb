"""The streaming service: everything that makes a time."""
