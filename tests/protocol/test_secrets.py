"""No secret in a log, a process list, an environment or an error. Runs last: what all tests before did is searched."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from black_box.http_client import check_error
from black_box.processes import wait_until
from black_box.store import RunningStore
from black_box.user import User, stored_form


@pytest.fixture
def secrets_of(local_store: RunningStore, user: User) -> dict[str, str]:
    """Everything that has to stay secret, by what it is."""
    found = {
        "admin token": local_store.admin_token,
        "a user's password": user.password,
        "an access token": user.token,
        "a refresh token": user.refresh_token,
        "an upload token": user.begin("upload")["upload_token"],
    }
    for path in local_store.data.rglob("*"):
        if not path.is_file() or path.stat().st_size > 10_000:
            continue
        text = path.read_bytes().decode(errors="replace")
        for number, key in enumerate(re.findall(r"PRIVATE KEY-----\s+(\S+)", text)):
            found[f"private key {path.name} {number}"] = key
        for name, value in re.findall(r'"(secret_access_key|secretKey|access_key_id)": *"([^"]+)"', text):
            if name != "access_key_id":
                found[f"S3 {name} of {path.name}"] = value
    assert any("private key" in each for each in found)
    assert any("S3" in each for each in found)
    assert all(len(value) >= 12 for value in found.values())
    return found


@pytest.fixture
def provoked(local_store: RunningStore, user: User, secrets_of: dict[str, str]) -> list[str]:
    """The error answers of people who put secrets where they do not belong, behind those of all tests before."""
    admin, upload = secrets_of["admin token"], secrets_of["an upload token"]
    for token in (admin, upload, user.refresh_token):
        check_error(user.l1.with_token(token).get("/list_directory/root"), 401, 403)
        check_error(local_store.front(token + "x").get("/auth/users"), 401, 403)
    check_error(
        local_store.front().post("/auth", json={"username": user.username, "password": user.password + "x"}),
        401,
    )
    check_error(
        local_store.front().post("/auth", json={"username": user.password, "password": [user.password]}), 422
    )
    check_error(
        local_store.front().post("/auth", content=f'{{"password": "{user.password}"'.encode()), 400, 422
    )
    check_error(local_store.front().post("/auth/refresh", json={"refresh_token": admin}), 401)
    check_error(user.commit("upload", upload, 1), 422)
    check_error(user.l1.get(f"/list_directory/root?limit=x&token={user.token}"), 400, 422)
    check_error(
        user.block.with_token(upload).post("/store_chunk", json=[stored_form("c", b"x", data="!")]), 422
    )
    check_error(user.block.get("/chunks/nothing", headers={"X-Upload-Token": upload}), 404)
    return local_store.http.error_bodies


def log_lines(local_store: RunningStore) -> Iterator[tuple[Path, str]]:
    logs = [path for path in (local_store.data / "logs").rglob("*") if path.is_file()]
    assert logs, f"no logs below {local_store.data / 'logs'}"
    for path in [*logs, local_store.said]:
        for line in path.read_text(errors="replace").splitlines():
            yield path, line


@pytest.mark.usefixtures("provoked")
def test_no_log_holds_a_secret(local_store: RunningStore, secrets_of: dict[str, str]):
    for path, line in log_lines(local_store):
        for what, value in secrets_of.items():
            assert value not in line, f"{what} in {path}: {line.replace(value, '<SECRET>')[:500]}"


def test_no_error_answer_holds_a_secret(provoked: list[str], secrets_of: dict[str, str]):
    assert len(provoked) >= 10
    for body in provoked:
        for what, value in secrets_of.items():
            assert value not in body, f"{what} in {body.replace(value, '<SECRET>')[:500]}"


@pytest.mark.parametrize("engine", ["local_store", "minio_store"])
def test_no_command_line_and_no_environment_holds_a_secret(engine: str, request: pytest.FixtureRequest):
    running: RunningStore = request.getfixturevalue(engine)
    values = [running.admin_token]
    for path in running.data.rglob("*"):
        if path.is_file() and path.stat().st_size < 10_000:
            text = path.read_bytes().decode(errors="replace")
            values += re.findall(r"PRIVATE KEY-----\s+(\S+)", text)
            values += [value for _, value in re.findall(r'"(secret_access_key|secretKey)": *"([^"]+)"', text)]
    assert len(values) >= 3
    processes = running.processes()
    assert len(processes) >= 13
    for process in processes:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
        for value in values:
            assert value not in process.command, process.command.split()[0]
            assert value not in environment, process.command


def test_files_that_hold_secrets_are_for_their_owner_alone(
    local_store: RunningStore, secrets_of: dict[str, str]
):
    for path in local_store.data.rglob("*"):
        if path.is_file() and path.stat().st_size < 10_000:
            text = path.read_bytes().decode(errors="replace")
            if any(value in text for value in secrets_of.values()):
                closed = [each for each in (path, *path.parents) if not each.stat().st_mode & 0o077]
                assert closed, f"{path} can be read by others"


def test_logs_are_json_with_the_request_ids_that_clients_saw(local_store: RunningStore, user: User):
    request_id = check_error(user.l1.get("/nodes/nothing"), 404)["request_id"]

    def logged() -> list[str]:
        return [line for _, line in log_lines(local_store) if request_id in line]

    wait_until(logged, 5, "the request is in a log")
    (line,) = logged()
    assert request_id in json.loads(line).values()


@pytest.mark.usefixtures("provoked")
def test_no_server_met_anything_it_did_not_expect(local_store: RunningStore):
    for path, line in log_lines(local_store):
        assert "Traceback (most recent call last)" not in line, f"{path}: {line[:3000]}"
