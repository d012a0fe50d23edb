"""Encoders: utterance to vector, one file a family."""
