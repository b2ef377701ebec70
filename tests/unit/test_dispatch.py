"""Routes are found by their segments."""

import pytest

from moorage_nodes.dispatch import RouteTree


@pytest.fixture
def tree() -> RouteTree[str]:
    tree: RouteTree[str] = RouteTree()
    for method, template in (
        ("GET", "/auth/users"),
        ("POST", "/auth"),
        ("POST", "/auth/refresh"),
        ("GET", "/auth/users/{username}"),
        ("PUT", "/auth/users/{username}"),
        ("POST", "/auth/users/{username}/password"),
        ("GET", "/files/{file}/chunks"),
        ("POST", "/files:batch_update"),
        ("GET", "/{any}/users/special"),
    ):
        tree.add(method, template, f"{method} {template}")
    return tree


@pytest.mark.parametrize(
    ("method", "path", "found", "values"),
    [
        ("GET", "/auth/users", "GET /auth/users", []),
        ("GET", "/auth/users/ann", "GET /auth/users/{username}", ["ann"]),
        ("PUT", "/auth/users/ann", "PUT /auth/users/{username}", ["ann"]),
        ("GET", "/auth/users/password", "GET /auth/users/{username}", ["password"]),
        ("POST", "/auth/users/a@b.c/password", "POST /auth/users/{username}/password", ["a@b.c"]),
        ("POST", "/files:batch_update", "POST /files:batch_update", []),
        ("GET", "/auth/users/special", "GET /auth/users/{username}", ["special"]),
        ("GET", "/other/users/special", "GET /{any}/users/special", ["other"]),
        ("HEAD", "/auth/users/ann", "GET /auth/users/{username}", ["ann"]),
    ],
)
def test_a_path_finds_its_route(tree: RouteTree[str], method: str, path: str, found: str, values: list[str]):
    match, parameters, _ = tree.find(method, path)
    assert match is not None
    assert (match.value, parameters) == (found, values)
    assert found.endswith(f" {match.template}")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "auth",
        "/auth/",
        "//auth",
        "/auth/users/",
        "/auth/users//password",
        "/auth/users/a/b",
        "/files",
    ],
)
def test_a_path_that_nearly_fits_finds_nothing(tree: RouteTree[str], path: str):
    assert tree.find("GET", path) == (None, [], [])


def test_another_method_is_told_which_there_are(tree: RouteTree[str]):
    assert tree.find("PATCH", "/auth/users/ann") == (None, [], ["GET", "HEAD", "PUT"])


def test_a_method_is_found_behind_a_fixed_segment_that_lacks_it(tree: RouteTree[str]):
    """`/auth/users/special` fits two templates; the second one's methods count too."""
    tree.add("PATCH", "/{any}/users/special", "patched")
    match, values, _ = tree.find("PATCH", "/auth/users/special")
    assert match is not None
    assert (match.value, values) == ("patched", ["auth"])


def test_a_route_stands_once_whatever_its_parameters_are_called(tree: RouteTree[str]):
    with pytest.raises(ValueError, match="twice"):
        tree.add("GET", "/auth/users/{name}", "again")


def test_a_parameter_is_a_whole_segment():
    with pytest.raises(ValueError, match="whole segment"):
        RouteTree[str]().add("GET", "/files/{name}.txt", "x")
