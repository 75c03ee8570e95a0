"""The images that critest pulls, made here and kept in a local registry.

critest names its images by the hosts of public registries. A registries.conf entry sends these names to a local
registry; critest's own `-registry-prefix` does not do it for the image specs.

One image of the list cannot be made here, because critest asks for it by the digest of the original:
`test-image-digest`. Leave that spec out by its name (`UNREACHABLE`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.testing.oci import Config, File, Image, Link, image, layer

if TYPE_CHECKING:
    from parts.registry import Registry

UNREACHABLE = "public image with digest"
"""A piece of the name of the spec whose image has a digest that cannot be reproduced."""

FOCUS = "Image Manager|Image Consistency"
"""The specs about images that need no pods, for critest's `-ginkgo.focus`."""

HOSTS = ("gcr.io", "registry.k8s.io", "k8s.gcr.io")
"""The public registries that critest's names begin with."""

_FOLDER = "k8s-staging-cri-tools"
_USERS = {
    "test-image-user-uid": "1002",
    "test-image-user-username": "www-data",
    "test-image-user-uid-group": "1003:users",
    "test-image-user-username-group": "www-data:100",
    "test-image-predefined-group": "1000",
}
_PASSWD = b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\ndefault-user:x:1000:1000::/:/bin/sh\n"
_GROUP = b"root:x:0:\nwww-data:x:33:\nusers:x:100:\npredefined-group-1:x:50000:default-user\n"


def push_all(registry: Registry, *, busybox: bytes = b"") -> dict[str, Image]:
    """Pushes every image that critest's image specs ask for.

    Args:
        registry: an open one, without authentication.
        busybox: a static busybox for the images that critest starts; where it is empty they can only be pulled.

    Returns:
        the images by the names that critest uses.
    """
    pushed: dict[str, Image] = {}
    for repository, tags, made in _images(busybox):
        registry.client.push(made, repository, *tags)
        hosts = HOSTS[:1] if repository.startswith(_FOLDER) else HOSTS[1:]
        pushed |= {f"{host}/{repository}:{tag}": made for host in hosts for tag in tags}
    return pushed


def registries_conf(address: str) -> str:
    """A registries.conf that finds critest's names at a local registry.

    Args:
        address: its `HOST:PORT`; plain HTTP is spoken there.
    """
    entry = '[[registry]]\nprefix = "{}"\nlocation = "{}"\ninsecure = true\n\n'
    return "".join(entry.format(host, address) for host in (*HOSTS, address))


def _images(busybox: bytes) -> list[tuple[str, tuple[str, ...], Image]]:
    system: dict[str, bytes | File | Link] = {"etc/passwd": _PASSWD, "etc/group": _GROUP}
    if busybox:
        system |= {"bin/busybox": File(busybox, 0o755)}
        system |= {f"bin/{applet}": Link("busybox") for applet in ("sh", "sleep", "id", "cat", "echo", "top", "ls")}
    base = layer(system)

    def named(name: str, user: str = "") -> Image:
        return image(base, layer({"name": name.encode()}), config=Config(user=user, cmd=("sleep", "3600")))

    return [
        (f"{_FOLDER}/test-image-latest", ("latest",), named("latest")),
        (f"{_FOLDER}/test-image-tag", ("test",), named("tag:test")),
        (f"{_FOLDER}/test-image-tag", ("all",), named("tag:all")),
        *((f"{_FOLDER}/test-image-{number}", ("latest",), named(number)) for number in "123"),
        (f"{_FOLDER}/test-image-tags", ("1", "2", "3"), named("tags")),
        *((f"{_FOLDER}/{name}", ("latest",), named(name, user)) for name, user in _USERS.items()),
        ("pause", ("3.9",), named("pause")),
        ("e2e-test-images/busybox", ("1.29-2",), named("busybox")),
    ]
