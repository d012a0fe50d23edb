"""Corpora: one file each, from a raw folder to a manifest."""
