"""A file of the machine that cannot be looked at is an error, never one that was not written (issue 14, A5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from containers_storage.test_names import Trusting
from criimage.errors import ConfigurationError
from criimage_containers_storage.config_files import RuleSet, policy_file, registries_files
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.policy import read_policy
from criimage_containers_storage.registries.registries_conf import read_registries

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.config_files import ConfigFiles


def unreadable(path: Path) -> Path:
    """Make a path that nobody can look at, root neither: a link that leads to itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    return path


@pytest.mark.parametrize("rules", list(RuleSet))
def test_a_user_s_policy(tmp_path: Path, rules: RuleSet) -> None:
    """The system's policy, which may accept all, does not take the place of one that cannot be read."""
    policy = unreadable(tmp_path / ".config/containers/policy.json")
    with pytest.raises(ConfigurationError, match=str(policy)):
        policy_file("", {"HOME": str(tmp_path)}, rules)
    with pytest.raises(ConfigurationError, match=f"cannot read {policy}"):
        read_policy(policy)


def test_registries_conf_and_a_drop_in(tmp_path: Path) -> None:
    """A registry that is blocked in an unreadable file is not asked as if nothing were said about it."""
    main = unreadable(tmp_path / ".config/containers/registries.conf")

    def find() -> ConfigFiles:
        return registries_files("", {"HOME": str(tmp_path)}, RuleSet.OLDER, uid=0)

    none = tmp_path / "none"
    current = CurrentRegistries(find, none, tmp_path, Trusting())
    fault, _ = current.fault()
    assert fault is not None
    assert str(main) in fault.text

    main.unlink()
    main.write_text("")
    drop_in = unreadable(tmp_path / ".config/containers/registries.conf.d/10.conf")
    with pytest.raises(ConfigurationError, match=str(drop_in)):
        read_registries(find(), none)
    fault, _ = current.fault()
    assert fault is not None
    assert str(drop_in) in fault.text
    drop_in.unlink()
    assert current.fault() == (None, False)
