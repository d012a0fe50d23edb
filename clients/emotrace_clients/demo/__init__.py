"""The demo dialogue: a script for two synthetic voices and the program that speaks it."""
