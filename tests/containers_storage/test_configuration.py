"""Settings, storage.conf, policy.json and auth files."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from criimage import plugins
from criimage.credentials import Credentials
from criimage.errors import ConfigurationError
from criimage.reference import Reference
from criimage_containers_storage import Settings, plugin
from criimage_containers_storage.config_files import ConfigFiles
from criimage_containers_storage.registries.auth_files import default_files, in_memory, render, sendable
from criimage_containers_storage.registries.judge import Judge
from criimage_containers_storage.registries.policy import accepts_anything, read_policy
from criimage_containers_storage.store.storage_conf import locate

ANYTHING = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]


def test_the_plugin_is_found_and_cheap() -> None:
    """The entry point leads here, and importing it brings in neither the store nor any tool's part."""
    assert plugins.load("containers-storage") is plugin
    check = (
        "import criimage_containers_storage, sys; print([m for m in sys.modules if m.endswith(('.backend', '.pull'))])"
    )
    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "wrong",
    [
        {"unknown": "x"},
        {"root": "relative"},
        {"root": "/a,b"},
        {"root": "/a]b"},
        {"remove": "all"},
        {"short_name_mode": "ask"},
        {"options": ["overlay"]},
        {"options": ["overlay.mountopt=a,b"]},
        {"driver": "../x"},
        {"policy": "policy.json"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """What cannot work, or could break out of the store's name on a command line, is refused at once (T2)."""
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_where_a_store_is_that_nobody_has_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's places and a user's own, of which XDG_* may be others (L13, X1)."""
    environment = storage_conf(tmp_path, '[storage]\ndriver = "vfs"\n')
    found = locate(Settings(), environment)
    assert (found.root, found.run_root) == (Path("/var/lib/containers/storage"), Path("/run/containers/storage"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = locate(Settings(), {**environment, "XDG_RUNTIME_DIR": "/run/user/7"})
    assert found.root == tmp_path / ".local/share/containers/storage"
    assert found.run_root == Path("/run/user/7/containers")


def storage_conf(folder: Path, text: str) -> dict[str, str]:
    """An environment that leads to this storage.conf."""
    (folder / "storage.conf").write_text(text)
    return {"CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "HOME": str(folder)}


def test_storage_conf_fills_what_is_unset(tmp_path: Path) -> None:
    """Settings, then the environment, then storage.conf; the store is named completely for the tools (L13, T2, L12)."""
    environment = storage_conf(
        tmp_path,
        '[storage]\ndriver = "overlay"\ngraphroot = "/g"\nrunroot = "/r"\n'
        '[storage.options]\nadditionalimagestores = ["/more"]\n'
        '[storage.options.overlay]\nignore_chown_errors = "true"\nmountopt = "nodev,metacopy=on"\n',
    )
    layout = locate(Settings(), environment)
    assert layout.spec == "[overlay@/g+/r:overlay.ignore_chown_errors=true,overlay.imagestore=/more]"
    assert layout.additional == (Path("/more"),)
    assert locate(Settings(root="/mine", driver="vfs"), environment).spec == "[vfs@/mine+/r:vfs.imagestore=/more]"
    assert locate(Settings(), environment | {"STORAGE_DRIVER": "vfs"}).driver == "vfs"
    options = locate(Settings(options=("overlay.imagestore=/x", "overlay.size=1G")), environment)
    assert options.spec == "[overlay@/g+/r:overlay.size=1G,overlay.imagestore=/more,overlay.imagestore=/x]"


def test_the_driver_of_an_existing_store_is_found(tmp_path: Path) -> None:
    """Without a word about the driver the store's folders tell, overlay where there are none (L13)."""
    environment = storage_conf(tmp_path, f'[storage]\ngraphroot = "{tmp_path}/g"\n')
    assert locate(Settings(), environment).driver == "overlay"
    (tmp_path / "g" / "vfs-images").mkdir(parents=True)
    assert locate(Settings(), environment).driver == "vfs"


@pytest.mark.parametrize(
    "text",
    [
        "[[storage",
        'storage = "x"',
        '[storage]\ngraphroot = "/a+b"\n',
        '[storage]\nimagestore = "/i"\n',
        '[storage]\ngraphroot = "/a\\u0000b"\n',
        '[storage]\ndriver = "over\\u0000lay"\n',
        '[storage.options]\nadditionalimagestores = ["/a\\u0000b"]\n',
    ],
)
def test_an_unusable_storage_conf_is_named(tmp_path: Path, text: str) -> None:
    """A file that the tools could not use is a configuration error with its name (L13).

    `imagestore` needs a skopeo that knows it (V4).
    """
    with pytest.raises(ConfigurationError, match=r"storage\.conf"):
        locate(Settings(), storage_conf(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ('graphroot = "$HOME/$UID/${NAME}"\nrunroot = "/r/$NOTHING"', "[overlay@{home}/{uid}/n+/r]"),
        ('driver = "overlay2"\ngraphroot = "/g"\nrunroot = "/r"', "[overlay@/g+/r]"),
        (
            'graphroot = "/g"\nrunroot = "/r"\n[storage.options]\nignore_chown_errors = "true"\nforce_mask = 0o750',
            "[overlay@/g+/r:overlay.ignore_chown_errors=true,overlay.force_mask=750]",
        ),
        (
            'graphroot = "/g"\nrunroot = "/r"\n[storage.options]\nsize = "1G"\n[storage.options.overlay]\nsize = "2G"',
            "[overlay@/g+/r:overlay.size=2G]",
        ),
        (
            'graphroot = "/g"\nrunroot = "/r"\n[storage.options.overlay]\nunknown = "x"\nmountopt = "a,b"',
            "[overlay@/g+/r]",
        ),
    ],
)
def test_storage_conf_as_the_tools_read_it(tmp_path: Path, text: str, spec: str) -> None:
    """Every variable, the old name of a driver, options of all drivers, keys that only mounting needs (L13)."""
    environment = storage_conf(tmp_path, f"[storage]\n{text}\n") | {"NAME": "n"}
    assert locate(Settings(), environment).spec == spec.format(home=tmp_path, uid=os.getuid())


def test_links_and_variables_of_the_environment(tmp_path: Path) -> None:
    """A root is followed to where it leads; STORAGE_OPTS stands for all options, read-only stores included (L13)."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    text = '[storage]\ngraphroot = "$HOME/link"\nrunroot = "/r"\n[storage.options]\nadditionalimagestores = ["/more"]\n'
    environment = storage_conf(tmp_path, text)
    assert locate(Settings(), environment).root == tmp_path / "real"
    named = locate(Settings(), environment | {"STORAGE_OPTS": "overlay.size=1G"})
    assert (named.options, named.additional) == (("overlay.size=1G",), ())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[storage.options]\nremap-uids = "0:1:2"', "remap-uids"),
        ('[storage.options]\nadditionallayerstores = ["/l"]', "additionallayerstores"),
        ('[storage.options.overlay]\nuse_composefs = "true"', "use_composefs"),
        ('[storage.options.overlay]\nmount_program = "/a,b"', "mount_program"),
        ("[storage.options.overlay]\nsize = 1", "size"),
        ('[storage.options]\nimagestore = "/i"', "imagestore"),
        ('[storage.options]\nadditionalimagestores = "/i"', "additionalimagestores"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    """Nothing of storage.conf that changes what a pull writes is dropped in silence (L13, V4)."""
    with pytest.raises(ConfigurationError, match=named):
        locate(Settings(), storage_conf(tmp_path, f'[storage]\ndriver = "overlay"\n{text}\n'))


def test_a_named_storage_conf_has_to_exist(tmp_path: Path) -> None:
    """The tools refuse to go on by anything else then (L13)."""
    with pytest.raises(ConfigurationError, match=r"none\.conf"):
        locate(Settings(), {"CONTAINERS_STORAGE_CONF": str(tmp_path / "none.conf")})


@pytest.mark.parametrize(
    ("scopes", "accepted"),
    [
        ({}, True),
        ({"": REJECT}, False),
        ({"h.io": REJECT}, False),
        ({"h.io": REJECT, "h.io/a": ANYTHING}, True),
        ({"h.io/a/x": REJECT, "h.io/a": ANYTHING}, False),
        ({"h.io/a/x:1": ANYTHING, "h.io/a/x": REJECT}, True),
        ({"*.io": REJECT}, False),
        ({"h.i": REJECT, "h.io/b": REJECT}, True),
        ({"h.io": [{"type": "signedBy"}, *ANYTHING]}, False),
        ({"h.io": "broken"}, False),
    ],
)
def test_whether_a_policy_looks_at_an_image(scopes: dict[str, object], accepted: bool) -> None:
    """The most specific scope decides; only a plain accept lets an unchanged image be skipped (P9, C6)."""
    policy = {"default": ANYTHING, "transports": {"docker": scopes}}
    assert accepts_anything(policy, Reference.parse("h.io/a/x:1")) is accepted


def test_scopes_that_are_no_table_accept_nothing() -> None:
    """What nobody can read is judged by skopeo, whatever stands in `default`."""
    policy = {"default": ANYTHING, "transports": {"docker": []}}
    assert not accepts_anything(policy, Reference.parse("h.io/a/x:1"))


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"default": []}', '{"default": [{}], "transports": []}'])
def test_an_unusable_policy_is_named(tmp_path: Path, text: str | None) -> None:
    """A missing or broken policy.json is a configuration error with its name (section 8, table)."""
    file = tmp_path / "policy.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"policy\.json"):
        read_policy(file)


def test_an_auth_file_is_for_one_repository(tmp_path: Path) -> None:
    """The full repository is the key; nothing else of its host is handed on, a torn file passed over (T12, A9)."""
    first, missing, broken = (tmp_path / name for name in ("first.json", "missing.json", "broken.json"))
    first.write_text(json.dumps({"auths": {"h.io": ENTRY}, "credHelpers": {"h.io": "x", "g.io": "y"}}))
    broken.write_text("{")
    made = json.loads(render(Credentials("u", "p:w"), ["h.io/a/x"], [], [first, missing, broken]))
    assert base64.b64decode(made["auths"].pop("h.io/a/x")["auth"]) == b"u:p:w"
    assert made == {"auths": {}, "credHelpers": {}}


ENTRY, OTHER = {"auth": "Zmlyc3Q6MQ=="}, {"auth": "bm86MQ=="}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # The file comes first, how exactly its key fits second.
        ([{"auths": {"m.io": ENTRY}}, {"auths": {"m.io/a/x": OTHER}}], {"auths": {"m.io/a/x": ENTRY}}),
        ([{"auths": {"m.io/a": ENTRY, "m.io": OTHER}}], {"auths": {"m.io/a/x": ENTRY}}),
        ([{"auths": {"m.io/b": OTHER}}, {"auths": {"https://m.io/v1/": ENTRY}}], {"auths": {"m.io/a/x": ENTRY}}),
        # What docker leaves beside a helper says nothing.
        ([{"auths": {"m.io": {}}}, {"auths": {"m.io": ENTRY}}], {"auths": {"m.io/a/x": ENTRY}}),
        ([{"auths": {"m.io": OTHER}, "credHelpers": {"m.io": "x"}}], {"credHelpers": {"m.io": "x"}}),
        ([{"auths": {"m.io": ENTRY}}, {"credHelpers": {"m.io": "x"}}], {"auths": {"m.io/a/x": ENTRY}}),
        ([{"auths": {"other.io": OTHER}}], {}),
    ],
)
def test_a_mirror_gets_what_the_first_file_has(
    tmp_path: Path, files: list[object], expected: dict[str, object]
) -> None:
    """As the tools look: file by file, in each a helper, then the longest key, then any spelling of the host (A10)."""
    written = [tmp_path / f"{number}.json" for number in range(len(files))]
    for file, content in zip(written, files, strict=True):
        file.write_text(json.dumps(content))
    made = json.loads(render(Credentials("u", "p"), ["h.io/x"], ["m.io/a/x"], written))
    del made["auths"]["h.io/x"]
    assert made == {"auths": {}, "credHelpers": {}, **expected}


def test_exact_bytes_and_tokens() -> None:
    """Bytes that are no UTF-8 arrive as they were; an identity token has its place, a registry token none (A4, A7)."""
    odd = Credentials.from_request(auth=base64.b64encode(b"u\xff:p\xfe").decode())
    assert odd is not None
    assert base64.b64decode(json.loads(render(odd, ["h/x"], [], []))["auths"]["h/x"]["auth"]) == b"u\xff:p\xfe"
    token = json.loads(render(Credentials(identity_token="t"), ["h/x"], [], []))["auths"]["h/x"]  # noqa: S106
    assert token == {"auth": base64.b64encode(b":").decode(), "identitytoken": "t"}
    assert not sendable(Credentials(registry_token="t"))  # noqa: S106


def test_the_order_of_the_machines_auth_files() -> None:
    """The tools' own order; a chosen file stands alone (A8)."""
    assert default_files({"REGISTRY_AUTH_FILE": "/x", "HOME": "/h"}, uid=0) == [Path("/x")]
    found = default_files({"HOME": "/h"}, uid=7)
    assert found[:3] == [
        Path("/run/containers/7/auth.json"),
        Path("/h/.config/containers/auth.json"),
        Path("/h/.docker/config.json"),
    ]


def test_a_file_in_memory_is_read_from_its_beginning_each_time() -> None:
    """A child may open it several times; afterwards it is gone (T12)."""
    with in_memory(b"content") as descriptor:
        path = Path(f"/proc/self/fd/{descriptor}")
        assert [path.read_bytes(), path.read_bytes()] == [b"content", b"content"]
        assert not os.get_inheritable(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_each_place_of_credentials_can_be_moved() -> None:
    """A8: each variable moves its own file and no other."""
    environment = {"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}
    moved = default_files(environment, uid=7)
    assert moved[:3] == [Path("/r/containers/auth.json"), Path("/c/containers/auth.json"), Path("/d/config.json")]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'level=fatal msg="get credentials: loading registries configuration \\"/r\\": bad"',
            'loading registries configuration "/r": bad',
        ),
        ('level=fatal msg="get credentials: not logged into criimage.invalid"', ""),
        ('level=warning msg="loading registries configuration"', ""),
    ],
)
def test_what_skopeo_has_against_the_files_is_its_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    """Only a fatal line about them counts; that nobody has logged in is how it ends where nothing is wrong."""
    monkeypatch.setattr("criimage_containers_storage.registries.judge._SECONDS", 60.0)
    program = tmp_path / "skopeo"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n")
    program.chmod(0o755)
    main = tmp_path / "registries.conf"
    main.touch()
    judge = Judge({"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, str(program))
    assert judge.verdict(ConfigFiles((main,), (), chosen=True), None) == told
