"""The drift report of a bundle: what the profile `fast` does to its estimates.

`emotrace-train fast` runs both profiles over test dialogues and leaves the report in the bundle, as
drift.json. It holds for the weights, calibration and decoder that it was made with, and for these
numerics only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emotrace_models.bundle import Bundle, BundleCorrupted
from emotrace_models.layers.digests import add_weights

DRIFT = "drift.json"
LEAST = 0.995  # agreement that is asked of a fast bundle


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Difference(_Entry):
    """Between the profiles, over the utterances of dialogues, under one label set."""

    utterances: int = Field(gt=0)
    agreement: float = Field(ge=0, le=1, description="share with the same label")
    decoder_agreement: float = Field(ge=0, le=1, description="share with the decoder's same label")
    largest: float = Field(ge=0, description="difference of any posterior")
    mean: float = Field(ge=0, description="of each utterance's largest difference")


class Drift(_Entry):
    """of: `identity` of the bundle. data: which dialogues. numerics: `profiles.describe` of the
    fast form. sets: by label set."""

    of: str
    data: str
    numerics: Mapping[str, str]
    sets: Mapping[str, Difference]

    @property
    def agreement(self) -> float:
        """The least over the label sets."""
        return min(difference.agreement for difference in self.sets.values())


def drift_of(bundle: Bundle) -> Drift | None:
    """The report of a bundle as it was loaded, not of its fast form; None where it has none, or
    one of other weights or settings. Raises BundleCorrupted for a file that is no report."""
    if DRIFT not in bundle.assets:
        return None
    try:
        found = Drift.model_validate_json(bundle.assets[DRIFT])
    except ValidationError as error:
        raise BundleCorrupted(f"{DRIFT} of {bundle.name!r}: {error.errors()[0]['msg']}") from error
    return found if found.of == identity(bundle) else None


def identity(bundle: Bundle) -> str:
    """SHA-256 of all that an estimate depends on: weights, calibrations, decoders."""
    digest = hashlib.sha256()
    for encoder in bundle.encoders:
        digest.update(f"{encoder.stream} {asdict(encoder.config)}".encode())
        add_weights(digest, encoder)
    digest.update(f"fusion {asdict(cast(Any, bundle.fusion.config))}".encode())
    add_weights(digest, bundle.fusion)
    views = {bundle.labels.scheme: (bundle.calibration, bundle.decoder)} | {
        scheme: (view.calibration, view.decoder) for scheme, view in bundle.views.items()
    }
    settings = {
        scheme: [asdict(calibration), asdict(decoder)]
        for scheme, (calibration, decoder) in sorted(views.items())
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    return digest.hexdigest()
