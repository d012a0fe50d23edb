"""Fusion models: context to logits and reasons, one file a model."""
