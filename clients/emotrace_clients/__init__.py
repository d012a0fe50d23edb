"""Clients: what a person touches."""
