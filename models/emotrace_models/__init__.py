"""Dialogue emotion models: everything that makes a number. Importing this imports no torch."""
