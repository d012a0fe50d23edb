"""Networks of the transformers library with all of their weights, from safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_network(kind: Any, source: str | Path, config: Any, **settings: Any) -> Any:
    """The network of class `kind` and `config` with the weights of `source`, a folder or a name.

    The library fills what it does not find, or not in this size, with random numbers: that raises
    ValueError here. Raises OSError where there are no safetensors.
    """
    network, found = kind.from_pretrained(
        str(source),
        config=config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **settings,
    )
    wrong = sorted({*found["missing_keys"], *(str(key[0]) for key in found["mismatched_keys"])})
    if wrong:
        raise ValueError(f"{source} lacks {len(wrong)} weights of its config, first {wrong[0]}")
    return network
