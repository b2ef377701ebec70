import json
from pathlib import Path

import pytest

from moorage.core.errors import InvalidFieldError
from moorage_nodes.blocks.credentials import Credentials, open_credentials


def swap(mounted: Path, version: str, **keys: str) -> None:
    """As a kubelet does it: a new folder, then the link to it in one step."""
    folder = mounted / f"..{version}"
    folder.mkdir()
    for name, value in keys.items():
        (folder / name).write_text(value)
        if not (mounted / name).is_symlink():
            (mounted / name).symlink_to(f"..data/{name}")
    (mounted / "..tmp").symlink_to(folder.name)
    (mounted / "..tmp").replace(mounted / "..data")


def test_a_json_file_is_read(tmp_path: Path):
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"access_key_id": "a", "secret_access_key": "s"}))
    assert open_credentials(path).value == Credentials(access_key_id="a", secret_access_key="s")


def test_a_mounted_secret_is_read_and_followed(tmp_path: Path):
    swap(tmp_path, "one", access_key_id="a", secret_access_key="s\n")
    credentials = open_credentials(tmp_path)
    assert credentials.value == Credentials(access_key_id="a", secret_access_key="s")
    assert not credentials.refresh()
    swap(tmp_path, "two", access_key_id="a", secret_access_key="other")
    assert credentials.refresh()
    assert credentials.value == Credentials(access_key_id="a", secret_access_key="other")


def test_a_secret_that_lost_a_key_leaves_the_old_credentials_in_use(tmp_path: Path):
    swap(tmp_path, "one", access_key_id="a", secret_access_key="s")
    credentials = open_credentials(tmp_path)
    swap(tmp_path, "two", access_key_id="b")
    assert not credentials.refresh()
    assert credentials.value.secret_access_key == "s"
    assert credentials.failure is not None
    assert "secret_access_key" in credentials.failure


@pytest.mark.parametrize("content", ["{}", "not json", '{"access_key_id": "sesame"}'])
def test_a_bad_file_is_refused_without_showing_it(tmp_path: Path, content: str):
    path = tmp_path / "credentials.json"
    path.write_text(content)
    with pytest.raises(InvalidFieldError) as refused:
        open_credentials(path)
    assert "sesame" not in str(refused.value)
