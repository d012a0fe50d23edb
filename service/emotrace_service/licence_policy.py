"""Which weights may be served, by their licences: EMOTRACE_LICENSE_POLICY.

`any` takes all; `commercial` those only whose licences allow use for money, as far as
emotrace_models.licences knows. That covers bundles, transcribers and face detectors; the voice
detector and OpenCV's faces come with packages under MIT and Apache-2.0.
"""

from __future__ import annotations

from emotrace_models.bundle import Bundle, shipped_bundles
from emotrace_models.bundle_config import read_config
from emotrace_models.licences import Policy, forbids
from emotrace_models.weights import WeightSet, load_lock, of_kind
from emotrace_service.errors import StartRefused

VARIABLE = "EMOTRACE_LICENSE_POLICY"


def check_bundle(bundle: Bundle, policy: Policy) -> None:
    """Raises StartRefused, which names the shipped bundles that may be used instead."""
    if reason := forbids(bundle.licence, policy):
        allowed = [
            f"--bundle {name} ({config.licence})"
            for name, config in ((n, read_config(p)) for n, p in shipped_bundles().items())
            if forbids(config.licence, policy) is None
        ]
        raise _refused(f"The bundle {bundle.name!r}", bundle.licence, reason, allowed, policy)


def check_weights(weights: WeightSet, policy: Policy) -> None:
    """Raises StartRefused, which names others of their kind that may be used instead."""
    if reason := forbids(weights.licence, policy):
        option = "--whisper" if weights.kind == "transcriber" else "--face-detector"
        allowed = [
            f"{option} {name} ({one.licence})"
            for name, one in of_kind(load_lock(), weights.kind).items()
            if forbids(one.licence, policy) is None
        ]
        allowed.append(f"{option} none")
        raise _refused(
            f"The {weights.kind} {weights.name!r}", weights.licence, reason, allowed, policy
        )


def _refused(
    what: str, licence: str, reason: str, allowed: list[str], policy: Policy
) -> StartRefused:
    return StartRefused(
        f"{what} is under {licence}: {reason}, and {VARIABLE} is {policy!r}. "
        f"Use {' or '.join([*allowed, f'{VARIABLE}=any'])}."
    )
