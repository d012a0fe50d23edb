"""What the code may not do, found in its syntax trees. These are the project's own rules;
bandit has the general ones (test_bandit.py).

A file from elsewhere must never run code: not as a pickle, not through a library that fetches code
by name. The few modules where a rule does not hold are listed with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOTS = ("service", "models", "training", "clients")

PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EVALUATORS = {"eval", "exec", "compile", "__import__"}

TRAINING = "for training alone: the server reads bundles, which are safetensors"
OWN = "a run's own checkpoint, which it goes on from"

# By rule, the modules in which it is broken, and why that is no danger.
ALLOWED: dict[str, dict[str, str]] = {
    "pickle": {
        "service/emotrace_service/packing.py": "messages between our own processes, on a pipe",
        "models/emotrace_models/encoders/clap_checkpoint.py": "the name of an error",
        "models/emotrace_models/encoders/tera_checkpoint.py": "the name of an error",
        "training/emotrace_training/checkpoints.py": "the name of an error",
    },
    "torch.load": {
        f"models/emotrace_models/encoders/{name}.py": TRAINING
        for name in ("clap_checkpoint", "resnet_frames", "tera_checkpoint")
    }
    | {
        f"training/emotrace_training/{name}.py": OWN
        for name in ("acoustic_fitting", "checkpoints", "face_fitting", "pretrain")
    },
    "from_pretrained": {
        "training/emotrace_training/stream_encoders.py": TRAINING,
    }
    | {
        f"models/emotrace_models/encoders/{name}.py": TRAINING
        for name in (
            "clap_pretrained",
            "clap_text",
            "face_frames",
            "hubert_pretrained",
            "pretrained",
            "resnet_frames",
            "roberta",
        )
    },
}


def faults(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The rules that a module breaks, and the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(_top(alias.name) in PICKLES for alias in node.names):
                yield "pickle", node.lineno
        elif isinstance(node, ast.ImportFrom):
            if _top(node.module or "") in PICKLES:
                yield "pickle", node.lineno
            if node.module == "torch" and any(one.name in ("load", "hub") for one in node.names):
                yield "torch.load", node.lineno
        elif isinstance(node, ast.Call):
            yield from ((rule, node.lineno) for rule in _of_call(node))
        elif isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            yield "trust_remote_code", node.lineno


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in ("torch.load", "torch.jit.load", "torch.package.PackageImporter"):
        yield "torch.load"
    if name.startswith("torch.hub.") or name.endswith("read_pickle"):
        yield "torch.load"
    if name.endswith(".from_pretrained"):
        yield "from_pretrained"
    if name in EVALUATORS:
        yield "eval"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        yield "yaml.load"
    if "trust_remote_code" in keywords:
        yield "trust_remote_code"
    if "allow_pickle" in keywords and ast.unparse(keywords["allow_pickle"]) != "False":
        yield "pickle"
    if "weights_only" in keywords and ast.unparse(keywords["weights_only"]) != "True":
        yield "torch.load"
    if "shell" in keywords and ast.unparse(keywords["shell"]) != "False":
        yield "shell"


def _top(module: str) -> str:
    return module.partition(".")[0]


def broken(root: Path) -> dict[str, dict[str, list[int]]]:
    """By rule and module, the lines."""
    found: dict[str, dict[str, list[int]]] = {}
    for folder in ROOTS:
        for file in sorted((root / folder).rglob("*.py")):
            name = file.relative_to(root).as_posix()
            for rule, line in faults(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(rule, {}).setdefault(name, []).append(line)
    return found


def test_nothing_from_elsewhere_can_run_code(root: Path) -> None:
    wrong = [
        f"{module}:{line}: {rule}"
        for rule, modules in broken(root).items()
        for module, lines in modules.items()
        for line in lines
        if module not in ALLOWED.get(rule, {})
    ]
    assert wrong == []


def test_no_exception_outlives_its_need(root: Path) -> None:
    found = broken(root)
    for rule, modules in ALLOWED.items():
        assert set(modules) == set(found.get(rule, {})), rule


def test_torch_load_reads_weights_only_where_it_is_allowed(root: Path) -> None:
    for module in ALLOWED["torch.load"]:
        calls = [
            node
            for node in ast.walk(ast.parse((root / module).read_text()))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        ]
        assert calls
        for call in calls:
            assert {one.arg: ast.unparse(one.value) for one in call.keywords}[
                "weights_only"
            ] == "True"


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import pickle", "pickle"),
        ("import joblib.numpy_pickle as x", "pickle"),
        ("from dill import loads", "pickle"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "pickle"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("from torch import load", "torch.load"),
        ("torch.hub.load('a/b', 'c')", "torch.load"),
        ("torch.load('x', weights_only=False)", "torch.load"),
        ("pandas.read_pickle('x')", "torch.load"),
        ("AutoModel.from_pretrained('a/b')", "from_pretrained"),
        ("kind().from_pretrained(source)", "from_pretrained"),
        ("AutoModel.from_config(c, trust_remote_code=x)", "trust_remote_code"),
        ("settings['trust_remote_code'] = True", "trust_remote_code"),
        ("eval('1')", "eval"),
        ("yaml.load(text)", "yaml.load"),
        ("subprocess.run('ls', shell=True)", "shell"),
    ],
)
def test_the_rules_find_what_they_are_for(code: str, rule: str) -> None:
    assert rule in {found for found, _ in faults(ast.parse(code))}


@pytest.mark.parametrize(
    "code",
    [
        "from safetensors.torch import load",
        "json.load(file)",
        "np.load('x', allow_pickle=False)",
        "model.eval()",
        "re.compile('x')",
    ],
)
def test_the_rules_leave_the_rest_alone(code: str) -> None:
    assert list(faults(ast.parse(code))) == []
