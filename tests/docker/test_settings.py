"""The table `[backends.docker]`, and where it says that the engine is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from criimage.errors import ConfigurationError
from criimage.plugins import load
from criimage.testing.certificates import Certificates
from criimage_docker.engine.address import Address, find_address
from criimage_docker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("host", "environment", "base", "socket"),
    [
        ("", {}, "unix://localhost", "/var/run/docker.sock"),
        ("", {"DOCKER_HOST": ""}, "unix://localhost", "/var/run/docker.sock"),
        ("", {"DOCKER_HOST": "unix:///run/x.sock"}, "unix://localhost", "/run/x.sock"),
        ("unix:///run/y.sock", {"DOCKER_HOST": "tcp://z:1"}, "unix://localhost", "/run/y.sock"),
        ("", {"DOCKER_HOST": "tcp://10.0.0.1:4000"}, "http://10.0.0.1:4000", ""),
        ("tcp://engine.example", {}, "http://engine.example:2375", ""),
        ("tcp://[::1]:4000", {}, "http://[::1]:4000", ""),
        ("https://engine.example", {}, "https://engine.example:2376", ""),
        ("tcp://engine.example", {"DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": "/x"}, "http://engine.example:2375", ""),
    ],
)
def test_addresses(host: str, environment: dict[str, str], base: str, socket: str) -> None:
    """The setting wins, then DOCKER_HOST, then the usual socket; ports as docker's client has them."""
    found = find_address(Settings(host=host), environment)

    assert (found.base.removesuffix("/"), found.socket) == (base, socket)
    assert found.local == bool(socket)
    assert (found.tls is not None) == base.startswith("https")


@pytest.mark.parametrize(
    "text",
    [
        "ssh://host",
        "npipe:////./pipe/x",
        "docker.sock",
        "unix://relative",
        "tcp://",
        "tcp://h:x",
        "tcp://u@h",
        "tcp://h/p",
    ],
)
def test_addresses_that_cannot_be_used(text: str) -> None:
    """What this backend cannot speak is told at the start."""
    with pytest.raises(ConfigurationError, match="Docker engine") as caught:
        find_address(Settings(), {"DOCKER_HOST": text})
    assert caught.value.setting == ()  # nothing that the file of settings has


@pytest.mark.parametrize(
    "table",
    [
        {"host": "ssh://x"},
        {"host": "tcp://a b"},
        {"cert_path": "relative"},
        {"mountpoint": "relative"},
        {"request_timeout": "0s"},
        {"request_timeout": 5},
        {"cache_ttl": "-1s"},
        {"unknown": 1},
    ],
)
def test_settings_that_cannot_be_right(table: dict[str, object]) -> None:
    """Each is refused with its key."""
    with pytest.raises(ValidationError, match=next(iter(table))):
        Settings.model_validate(table)


def test_the_defaults() -> None:
    """G2: two minutes less a second, as dockershim had it."""
    settings = Settings()

    assert (settings.host, settings.cert_path, settings.request_timeout, settings.cache) == ("", "", 119.0, True)


def test_certificates_without_an_authority(tmp_path: Path) -> None:
    """DOCKER_TLS_VERIFY without DOCKER_CERT_PATH means the user's own folder, as with docker's client."""
    environment = {"DOCKER_HOST": "tcp://h", "DOCKER_TLS_VERIFY": "1", "HOME": str(tmp_path)}
    with pytest.raises(ConfigurationError, match=str(tmp_path / ".docker")):
        find_address(Settings(), environment)


def test_a_folder_of_certificates_without_an_authority_is_told(tmp_path: Path) -> None:
    """It would not be used for anything, and the engine would be believed by whoever signed it."""
    with pytest.raises(ConfigurationError, match=f"there is no ca.pem in {tmp_path}"):
        find_address(Settings(host="tcp://h", cert_path=str(tmp_path)), {})


def test_a_certificate_that_cannot_be_read_is_told_with_its_key(tmp_path: Path) -> None:
    """As a missing one: whoever reads the text finds the setting, its file and its line by the key (issue 14, A3)."""
    (tmp_path / "ca.pem").symlink_to("ca.pem")
    with pytest.raises(ConfigurationError, match=f"cannot read {tmp_path}/ca.pem") as caught:
        find_address(Settings(host="tcp://h", cert_path=str(tmp_path)), {})
    assert caught.value.setting == ("backends", "docker", "cert_path")


def test_importing_is_cheap() -> None:
    """The plugin's root brings neither aiodocker nor aiohttp; opening it does."""
    code = "import sys, criimage_docker; sys.exit(bool({'aiodocker', 'aiohttp', 'yarl'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed without the extra, the backend says what to install."""
    monkeypatch.delitem(sys.modules, "criimage_docker.backend", raising=False)
    for module in [name for name in sys.modules if name.partition(".")[0] == "aiodocker"]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("engine.api", "backend"):
        monkeypatch.delitem(sys.modules, f"criimage_docker.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    plugin = load("docker")
    with pytest.raises(ConfigurationError, match=r"criimage\[docker\]; in a clone of it: pip install '\.\[docker\]'$"):
        async with plugin.open(Settings()):
            pass


def test_the_plugin() -> None:
    """It is found by its name, with its settings."""
    plugin = load("docker")

    assert (plugin.name, plugin.settings_model) == ("docker", Settings)
    assert Address("x", "y").local is False


def test_certificates_of_ones_own_are_shown_to_the_engine(tmp_path: Path) -> None:
    """cert.pem and key.pem, each for what it is; one without the other is not used, as with docker's client."""
    made = Certificates.make(tmp_path)
    settings = Settings(host="tcp://h", cert_path=str(tmp_path))
    shutil.copy(made.ca_folder / "ca.crt", tmp_path / "ca.pem")
    shutil.copy(made.certificate, tmp_path / "cert.pem")
    assert find_address(settings, {}).tls is not None
    shutil.copy(made.key, tmp_path / "key.pem")
    assert find_address(settings, {}).tls is not None
    shutil.copy(made.certificate, tmp_path / "key.pem")
    with pytest.raises(ConfigurationError, match=f"cannot use the certificates .* in {tmp_path}"):
        find_address(settings, {})
