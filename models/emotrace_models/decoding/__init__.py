"""The Dialogical Emotion Decoder: labels of a whole dialogue, turn by turn."""
