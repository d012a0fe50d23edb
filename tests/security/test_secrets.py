"""No secret is in the repository: keys of others (detect-secrets) and this project's own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString
from detect_secrets.plugins.ip_public import IPPublicDetector
from detect_secrets.plugins.keyword import DENYLIST, KeywordDetector

from emotrace_service.identity import new_key

# Sounds, pictures and weights are no text; numbers of bundles and locks of packages hold only what
# is public.
LEFT_OUT = (".flac", ".png", ".safetensors", ".sha256", "package-lock.json", "reliability.json")

# All of detect-secrets that know what a secret of some service is like.
KINDS = [
    kind
    for kind in get_mapping_from_secret_type_to_class().values()
    if issubclass(kind, RegexBasedDetector) and not issubclass(kind, IPPublicDetector)
]
# Its own framework hands each line to each of them in turn, which takes half a minute; the patterns
# find the same in the whole text.
PATTERNS = [(kind.secret_type, pattern) for kind in KINDS for pattern in kind().denylist]
NAMES = KeywordDetector()
RANDOM = Base64HighEntropyString(limit=4.5)  # digests are random too: hexadecimal is left out
NAMED_SO = re.compile("|".join(DENYLIST), re.IGNORECASE)
LONG = re.compile(r"[A-Za-z0-9+/_=-]{20}")

# A key, a ticket, a webhook's secret.
OURS = re.compile(r"\b(?:emk_[\w-]{43}|emt_[\w-]{40,}\.[\w-]{40,}|whsec_[A-Za-z0-9+/]{32,}={0,2})")

# Files in which something is like a secret, and why it is none.
NAMED = "a constant whose name has the word, not a secret"
WORDS = "what must not come out again, in tests of it"
ALLOWED = {
    "clients/emotrace_clients/webhook.py": NAMED,
    "service/emotrace_service/webhook_choice.py": NAMED,
    "docker/kubernetes/redis.yaml": "the name of a Secret, which is made elsewhere",
    "docker/kubernetes/server.yaml": "the name of a Secret, which is made elsewhere",
    "docs/compatibility.md": "the key `none`, for a client library that asks for one",
    "tests/e2e/test_openai_sdk.py": "the key `none`",
    "tests/integrations/test_pipecat.py": "the key `none`",
    "tests/clients/test_webhook.py": "published with the specification, to test with",
    "tests/e2e/test_webhook_delivery.py": "the bytes 0 to 31",
    "tests/protocol/test_codec.py": WORDS,
    "tests/service/test_engine.py": WORDS,
    "tests/service/test_ray_backend.py": WORDS,
    "tests/service/test_webhook.py": "an address with a password, which is refused",
    "tests/security/test_matrix.py": "an origin with a password, which is refused",
    "tests/security/test_secrets.py": "what the search is tested with",
}


def suspicious(file: Path) -> list[tuple[int, str]]:
    """Lines, and what they look like."""
    text = file.read_text("utf-8", errors="replace")
    patterns = [*PATTERNS, ("a secret of this service", OURS)]
    found = [
        (text.count("\n", 0, place.start()) + 1, kind)
        for kind, pattern in patterns
        for place in pattern.finditer(text)
    ]
    for number, line in enumerate(text.splitlines(), 1):
        if NAMED_SO.search(line):
            found += [(number, one.type) for one in NAMES.analyze_line(file.name, line, number)]
        if LONG.search(line):
            found += [(number, one.type) for one in RANDOM.analyze_line(file.name, line, number)]
    return sorted(found)


def tracked(root: Path) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout, so there is no list of files")
    names = [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    return [name for name in names if not name.endswith(LEFT_OUT)]


def test_no_file_holds_a_secret(root: Path) -> None:
    names = tracked(root)
    assert len(names) > 300
    found = {name: lines for name in names if (lines := suspicious(root / name))}
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}
    here = "tests/security/test_secrets.py"
    assert set(ALLOWED) - set(found) - {here} == set(), "an exception has outlived its need"


@pytest.mark.parametrize(
    "line",
    [
        f"key = '{new_key()}'",
        "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "-----BEGIN " + "PRIVATE KEY-----",
        "AKIA" + "QRSTUVWXYZ234567",
        "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
        "redis://someone:" + "hunter22hunter@cache.example:6379/0",
        "password = 'correct-horse-" + "battery-staple-91'",
    ],
    ids=["ours", "webhook", "private key", "AWS", "GitHub", "address", "password"],
)
def test_the_search_finds_what_it_is_for(tmp_path: Path, line: str) -> None:
    file = tmp_path / "leak.py"
    file.write_text(f"x = 1\n{line}\n")
    assert [number for number, _ in suspicious(file)][:1] == [2]


def test_the_search_leaves_the_rest_alone(tmp_path: Path) -> None:
    file = tmp_path / "fine.py"
    file.write_text("digest = '" + "0123456789abcdef" * 4 + "'\nkey = settings.key\n")
    assert suspicious(file) == []
