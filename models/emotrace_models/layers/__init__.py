"""Layers that models are built of; they know neither modalities nor labels."""

from emotrace_models.layers.grouped_xlstm import GroupedXLSTM
from emotrace_models.layers.xlstm import StackState, XLSTMStack

__all__ = ["GroupedXLSTM", "StackState", "XLSTMStack"]
