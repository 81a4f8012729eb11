"""Containerfile without an engine: its steps in folders as roots, and its server in namespaces.

What stands for an image is a folder. A stage begins with a copy of Debian's base, made by
debootstrap; each RUN is a shell in a chroot. The server then runs as an engine would start it: with
a root that is read-only, an empty /tmp, a volume and a network of its own, and as the file's user
without any capability. It takes root to do this, on Linux.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.patience import LIMIT_SECONDS, SOAK_SECONDS

RELEASE = "bookworm"  # whose Python is 3.11
_UP = """
import fcntl, socket, struct

name = struct.pack("16sh14x", b"lo", 0x41)  # up and running
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, name)
"""
# Every mount below the root but /proc is made read-only; then comes what an engine adds.
# By pivot_root, since in a chroot nobody may become another user of a namespace.
_MOUNTS = """
set -eu
mkdir -p "$ROOT"
mount --rbind "$BASE" "$ROOT"
[ "$BASE" = / ] || mount --rbind /proc "$ROOT/proc"
for place in $(cut -d ' ' -f 5 /proc/self/mountinfo); do
    case "$place" in
        "$ROOT"/proc | "$ROOT"/proc/*) ;;
        "$ROOT" | "$ROOT"/*) mount -o remount,bind,ro "$place" ;;
    esac
done
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/dev/shm"
mount -t tmpfs tmpfs "$ROOT/var/lib"
if [ "$BASE" = / ]; then  # what is installed here may lie below one of these
    mkdir -p "$ROOT$TREE"
    mount --bind "$TREE" "$ROOT$TREE"
    mount -o remount,bind,ro "$ROOT$TREE"
fi
mkdir -p "$ROOT$VOLUME"
mount --bind "$DATA" "$ROOT$VOLUME"
cd "$ROOT"
pivot_root . .
umount -l .
cd /
exec "$@"
"""


def program(name: str) -> str:
    """Find a program of the system, also one for root alone."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert path, f"{name} is missing"
    return path


class Instruction(NamedTuple):
    """Line of the file: `RUN`, and what stands behind it."""

    name: str
    text: str


class Image(NamedTuple):
    """Folder that stands for an image, and what the last stage says of its process."""

    root: Path
    environment: dict[str, str]
    user: str
    volume: str
    command: list[str]
    health: list[str]


def read_stages(text: str) -> list[list[Instruction]]:
    """Read the stages of a Containerfile."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    stages: list[list[Instruction]] = []
    for line in filter(str.strip, lines):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, rest.strip()))
    return stages


def read_image(text: str, root: Path) -> Image:
    """Read what the last stage says of its process."""
    said = {name: rest for name, rest in read_stages(text)[-1] if name != "RUN"}
    command = [*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])]
    health = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    for pair in shlex.split(said["ENV"]):
        name, _, value = pair.partition("=")
        environment[name] = value.replace("$PATH", environment["PATH"])
    return Image(root, environment, said["USER"], said["VOLUME"], command, health)


def make_base(folder: Path) -> None:
    """Make a root of Debian with Python, by its package's name."""
    packages = "--include=python3,python3-venv,ca-certificates"
    command = [program("debootstrap"), "--variant=minbase", packages, RELEASE, str(folder)]
    subprocess.run(command, check=True, timeout=SOAK_SECONDS, stdout=subprocess.DEVNULL)
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")  # as the official image has it


def build(text: str, context: Path, base: Path, folder: Path) -> Image:
    """Carry out the steps of a Containerfile; each stage begins with a copy of `base`."""
    named: dict[str, Path] = {}
    for number, stage in enumerate(read_stages(text)):
        root = folder / f"stage-{number}"
        subprocess.run(
            [program("cp"), "-a", "--reflink=auto", str(base), str(root)],
            check=True,
            timeout=SOAK_SECONDS,
        )
        for name, rest in stage:
            match name:
                case "FROM" if " AS " in rest:
                    named[rest.rpartition(" AS ")[2]] = root
                case "RUN":
                    run_in(root, rest)
                case "COPY":
                    _copy(rest, context, root, named)
    return read_image(text, root)


def run_in(root: Path, script: str) -> None:
    """Run a step in a root, with this machine's way to PyPI."""
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    shutil.copy(certificates, root / certificates.relative_to("/"))
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    kept = {"PIP_CERT", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "PIP_DISABLE_PIP_VERSION_CHECK"}
    own = {name: value for name, value in os.environ.items() if name in kept}
    subprocess.run(
        [program("chroot"), str(root), "/bin/sh", "-euc", script],
        check=True,
        timeout=SOAK_SECONDS,
        env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **own},
    )


def _copy(text: str, context: Path, root: Path, named: dict[str, Path]) -> None:
    *options, source, target = shlex.split(text)
    place = root / target.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if options:
        (stage,) = options
        origin = named[stage.removeprefix("--from=")] / source.lstrip("/")
        shutil.copytree(origin, place, symlinks=True)
    elif source == ".":
        for kept in kept_of_context(context):
            copy_any(context / kept, place / kept)
    else:
        copy_any(context / source, place)


def kept_of_context(context: Path) -> list[str]:
    """List what .containerignore keeps of the folder."""
    lines = (context / ".containerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def copy_any(source: Path, target: Path) -> None:
    """Copy a file or a folder without compiled files."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
    else:
        shutil.copy(source, target)


class Container:
    """Server of an image, in namespaces of its own; its log is a file.

    With `as_self`, its user is this one by another number, so that it may read what is this one's
    alone; without, it is another user.
    """

    def __init__(self, image: Image, folder: Path, *, as_self: bool = False) -> None:
        """Start the image's command; `folder` gets the mount points, the volume and the log."""
        self._image = image
        self.data, self.log = folder / "data", folder / "container.log"
        self.data.mkdir(mode=0o700)
        user, _, group = image.user.partition(":")
        if as_self:
            names = [program("unshare"), "--user", f"--map-user={user}", f"--map-group={group}"]
            self._become = [*names, "setpriv", "--no-new-privs"]
        else:
            os.chown(self.data, int(user), int(group))
            self._become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]
            self._become += ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        root = folder / "root"
        places = {"BASE": image.root, "ROOT": root, "DATA": self.data, "VOLUME": image.volume}
        places["TREE"] = Path(__file__).parents[1]
        mounts = [
            sys.executable,
            "-ISc",
            _UP + "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
        ]
        enter = ["sh", "-c", _MOUNTS, "sh"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program("unshare"),
                    "--mount",
                    "--net",
                    *mounts,
                    *enter,
                    *self._as_user(image.command),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **{name: str(value) for name, value in places.items()}},
            )

    def _as_user(self, command: Sequence[str]) -> list[str]:
        variables = [f"{name}={value}" for name, value in self._image.environment.items()]
        folder = f"--chdir={self._image.volume}"
        return [*self._become, "env", "-i", folder, *variables, *command]

    def run(self, *command: str, as_root: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command beside the server, as its user or as root."""
        number = str(self.process.pid)
        enter = [program("nsenter"), "--target", number, "--mount", "--net"]
        return subprocess.run(
            [*enter, *(command if as_root else self._as_user(command))],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )

    def is_healthy(self) -> bool:
        """Run the image's own check, once the server has said that it is there."""
        log = self.log.read_text()
        assert self.process.poll() is None, log
        return "serving" in log and self.run(*self._image.health).returncode == 0

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(LIMIT_SECONDS)
        finally:
            self.process.kill()
            self.process.wait(LIMIT_SECONDS)
