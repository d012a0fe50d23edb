"""The wire contract of Emotrace: messages, events, errors, order."""
