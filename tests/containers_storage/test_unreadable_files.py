"""A file of the machine that cannot be looked at is an error, never one that was not written (issue 14, A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.policy import find_policy, read_policy
from criimage_containers_storage.registries.registries_conf import find_files, read_registries

if TYPE_CHECKING:
    from pathlib import Path


def unreadable(path: Path) -> Path:
    """Make a path that nobody can look at, root neither: a link that leads to itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    return path


def test_a_user_s_policy(tmp_path: Path) -> None:
    """The system's policy, which may accept all, does not take the place of one that cannot be read."""
    policy = unreadable(tmp_path / ".config/containers/policy.json")
    with pytest.raises(ConfigurationError, match=str(policy)):
        find_policy("", {"HOME": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=f"cannot read {policy}"):
        read_policy(policy)


def test_registries_conf_and_a_drop_in(tmp_path: Path) -> None:
    """A registry that is blocked in an unreadable file is not asked as if nothing were said about it."""
    main = unreadable(tmp_path / ".config/containers/registries.conf")
    with pytest.raises(ConfigurationError, match=str(main)):
        find_files("", {"HOME": str(tmp_path)}, root=False)

    main.unlink()
    main.write_text("")
    drop_in = unreadable(tmp_path / ".config/containers/registries.conf.d/10.conf")
    files = find_files("", {"HOME": str(tmp_path)}, root=False)
    with pytest.raises(ConfigurationError, match=str(drop_in)):
        read_registries(files)
    current = CurrentRegistries(files, tmp_path)
    fault, _ = current.fault()
    assert fault is not None
    assert str(drop_in) in fault.text
    drop_in.unlink()
    assert current.fault() == (None, False)
