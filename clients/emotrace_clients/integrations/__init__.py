"""Emotrace inside voice-agent frameworks: a file each, which needs its framework."""
