"""Images built and run for real, without a Docker engine: Podman, in a store of its own.

The base image is a clean Debian root that debootstrap makes, under the name that the Dockerfile
asks for, so that no registry of images is needed. All lies under one folder, which `remove` ends.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = {"podman": "podman", "runc": "runc", "debootstrap": "debootstrap"}
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PATIENCE_S = 120.0
# As docker/compose.yaml confines a server.
CONFINED = (
    *("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "512", "--tmpfs", "/tmp:size=64m,mode=1777"),
)


@dataclass(frozen=True)
class Engine:
    """folder: its store, configuration and socket."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Engine:
        """Skips where a program or a right is missing."""
        for name, package in PROGRAMS.items():
            if shutil.which(name) is None:
                pytest.skip(f"{name} is not installed (Debian: {package}, with netavark)")
        if os.geteuid() != 0:
            pytest.skip("debootstrap and the containers' networks need root")
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=8192:8192", "nproc=4096:4096"]\n'
            f'[engine]\nruntime = "{shutil.which("runc")}"\ncgroup_manager = "cgroupfs"\n'
            'events_logger = "file"\n'
        )
        return cls(folder)

    @property
    def socket(self) -> str:
        """What DOCKER_HOST has to be while `serving`."""
        return f"unix://{self.folder}/podman.sock"

    def command(self, *words: object) -> list[str]:
        places = ("--root", self.folder / "store", "--runroot", self.folder / "run")
        return ["podman", *map(str, (*places, *words))]

    def try_(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self._environment()
        )

    def __call__(self, *words: object) -> str:
        """What it prints. Fails with what it says where it fails."""
        done = self.try_(*words)
        assert done.returncode == 0, f"podman {words}: {done.stderr[-4_000:]}{done.stdout[-4_000:]}"
        return done.stdout.strip()

    def debian(self, name: str) -> None:
        """Makes a clean Debian root the image of that name."""
        suite = re.fullmatch(r"debian:([a-z]+)-\d+-slim", name)
        assert suite, name
        root = self.folder / "debian"
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", suite[1], root)
        if AUTHORITIES.exists():  # of a network that ends TLS itself
            own = root / "usr/local/share/ca-certificates"
            own.mkdir(parents=True, exist_ok=True)
            shutil.copy(AUTHORITIES, own / "machine.crt")
            run("chroot", root, "update-ca-certificates")
        tree = self.folder / "debian.tar"
        run("tar", "--numeric-owner", "--create", "--file", tree, "--directory", root, ".")
        self("import", tree, f"docker.io/library/{name}")
        tree.unlink()
        shutil.rmtree(root)

    def build(self, file: Path, target: str | None, tag: str, context: Path) -> None:
        """Prints seconds and size. PIP_FLAGS and a folder of wheels, PIP_FIND_LINKS, come from the
        environment."""
        began = time.monotonic()
        flags, wheels = os.environ.get("PIP_FLAGS", ""), os.environ.get("PIP_FIND_LINKS", "")
        mount: tuple[str, ...] = ()
        if wheels.startswith("/"):
            flags += f" --find-links {wheels}"
            mount = ("--volume", f"{wheels}:{wheels}:ro")
        self(
            *("build", "--format", "docker", "--pull=never", "--isolation", "chroot"),
            *("--network", "host", "--file", file, "--tag", tag),
            *(("--target", target, "--build-arg", f"PIP_FLAGS={flags}") if target else ()),
            *mount,
            context,
        )
        size = int(self("inspect", tag, "--format", "{{.Size}}"))
        print(f"\n{tag}: built in {time.monotonic() - began:.0f} s, {size / 1e6:.0f} MB")

    @contextmanager
    def container(self, image: str, *options: object) -> Iterator[str]:
        """One that runs, by its identifier."""
        name = self("run", "--detach", *CONFINED, *options, image)
        try:
            yield name
        finally:
            self("rm", "--force", name)

    def logs(self, container: str) -> str:
        said = self.try_("logs", container)
        return said.stdout + said.stderr

    def healthy(self, container: str) -> None:
        """Returns once the image's own health check finds nothing. Prints after how long."""
        began = time.monotonic()
        while self.try_("healthcheck", "run", container).returncode != 0:
            runs = self("inspect", container, "--format", "{{.State.Running}}") == "true"
            if time.monotonic() > began + PATIENCE_S or not runs:
                raise AssertionError(f"not healthy: {self.logs(container)}")
        print(f"\nhealthy after {time.monotonic() - began:.1f} s")

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The API of Docker, at `socket`."""
        service = subprocess.Popen(
            self.command("system", "service", "--time=0", self.socket), env=self._environment()
        )
        try:
            yield self.socket
        finally:
            service.terminate()
            service.wait()

    def remove(self) -> None:
        self.try_("rm", "--all", "--force")
        self.try_("rmi", "--all", "--force")
        run("umount", "--lazy", self.folder / "store/overlay", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}


def run(*words: object, check: bool = True) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{words}: {done.stderr[-4_000:]}"
