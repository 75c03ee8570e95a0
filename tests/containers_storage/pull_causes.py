"""Every way in which we make a pull fail: what a registry does, and what the machine does."""

from __future__ import annotations

import contextlib
import json
import socketserver
import ssl
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from containers_storage.nobody import nobody
from criimage.testing.certificates import Certificates
from criimage.testing.oci import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Blob,
    Config,
    image,
    index,
    layer,
    machine_architecture,
    noise_layer,
)
from criimage.testing.scripted_registry import (
    Act,
    Answer,
    Auth,
    Change,
    Close,
    Hang,
    Script,
    ScriptedRegistry,
    Stage,
    corrupted,
    scripted_registry,
    truncated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

BIG = image(layer({"etc/motd": b"hello"}), noise_layer(200_000))
LYING = image(layer({"x": b"x"}), diff_ids=["sha256:" + "0" * 64])
FOREIGN = index(
    image(layer({"y": b"y"}), config=Config(architecture="arm64" if machine_architecture() != "arm64" else "amd64"))
)
HTML = b"<!DOCTYPE html><html><head><title>Sorry</title></head><body><h1>Sorry</h1></body></html>"
LATER = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Cause:
    """One way to fail.

    Attributes:
        text: what is the matter, for the page.
        name: what is pulled.
        user: with whose credentials, if any; the password is always `secret`.
        hangs: what it hangs at; it never ends by itself then.
    """

    text: str
    name: str
    user: str = ""
    hangs: Script | None = None


@dataclass(slots=True)
class Scene:
    """All registries and causes.

    Attributes:
        causes: in the page's order.
        rejected: a repository that a policy is to refuse.
        unsigned: a repository for which a policy is to want signatures.
        full_disks: more causes, each with the settings whose place is to have little space.
        machines: more causes, each with the settings and the environment of a machine of its own.
        registries: tables that some causes need in registries.conf.
    """

    causes: list[Cause]
    rejected: str = ""
    unsigned: str = ""
    full_disks: tuple[tuple[Cause, tuple[str, ...]], ...] = ()
    machines: tuple[tuple[Cause, dict[str, str], dict[str, str]], ...] = ()
    registries: str = ""


# What the registry does: at which stage, and what. The image is a good one otherwise.
_ACTS: tuple[tuple[str, Stage, Act], ...] = (
    ("401 without a challenge", Stage.MANIFEST, Answer(401, HTML)),
    ("403 for the manifest, an HTML page", Stage.MANIFEST, Answer(403, HTML)),
    ("404 for the manifest, an HTML page", Stage.MANIFEST, Answer(404, HTML)),
    ("404 for a layer, an HTML page", Stage.LAYER, Answer(404, HTML)),
    ("429 with Retry-After, again and again", Stage.MANIFEST, Answer(429, HTML, LATER)),
    ("500, an HTML page", Stage.MANIFEST, Answer(500, HTML)),
    ("502, an HTML page", Stage.MANIFEST, Answer(502, HTML)),
    ("503, an HTML page", Stage.MANIFEST, Answer(503, HTML)),
    ("504, an HTML page", Stage.MANIFEST, Answer(504, HTML)),
    ("500 for a layer", Stage.LAYER, Answer(500, HTML)),
    ("503 for a layer", Stage.LAYER, Answer(503, HTML)),
    ("an HTML page in place of a manifest", Stage.MANIFEST, Answer(200, HTML)),
    ("another manifest than the digest that was asked for", Stage.MANIFEST, Change(lambda data: data + b"\n")),
    ("a configuration with other bytes", Stage.CONFIG, Change(corrupted)),
    ("a layer with other bytes", Stage.LAYER, Change(corrupted)),
    ("a layer that is shorter than the manifest says", Stage.LAYER, Change(truncated)),
    ("a layer that is no archive", Stage.LAYER, Change(bytes.upper)),
    ("the connection closed before any answer", Stage.MANIFEST, Close()),
    ("the connection closed in the middle of a layer", Stage.LAYER, Close(after=50_000)),
)
_HANGS: tuple[tuple[str, Stage, Act], ...] = (
    ("no answer at all", Stage.PING, Hang()),
    ("no answer to the request for a token", Stage.TOKEN, Hang()),
    ("no answer to the request for the manifest", Stage.MANIFEST, Hang()),
    ("no answer to the request for a layer", Stage.LAYER, Hang()),
    ("429 with a long Retry-After", Stage.MANIFEST, Answer(429, HTML, {"Retry-After": "120"})),
    ("no more bytes in the middle of a layer", Stage.LAYER, Hang(after=50_000)),
)


@contextlib.contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Runs every registry until the block is left.

    Args:
        folder: for certificates.
    """
    with contextlib.ExitStack() as stack:

        def hub(auth: Auth = Auth.NONE, accounts: dict[str, str] | None = None) -> ScriptedRegistry:
            return stack.enter_context(scripted_registry(auth=auth, accounts=accounts))

        causes = [*_credentials(hub), *_acts(hub), *_contents(hub)]
        plain = hub()
        rejected, unsigned = (
            plain.put(BIG, repository, "1").removesuffix(":1") for repository in ("rejected", "unsigned")
        )
        causes += [
            Cause("blocked by registries.conf", "blocked.example.org/team/app:1"),
            Cause("the policy rejects it", f"{rejected}:1"),
            Cause("the policy wants a signature, and there is none", f"{unsigned}:1"),
            Cause("nobody listens there", f"{stack.enter_context(nobody())}/team/app:1"),
            Cause("the host's name is unknown", "registry.invalid/team/app:1"),
            Cause("the registry speaks HTTP only", plain.address.replace("127.0.0.1", "localhost") + "/rejected:1"),
            Cause("the certificate's authority is unknown", _with_tls(stack, folder)),
        ]
        for text, stage, act in _HANGS:
            one = hub(Auth.BEARER)
            causes.append(Cause(text, one.put(BIG, "team/app", "1"), hangs=one.script(stage, act)))
        large = [plain.put(image(noise_layer(6_000_000)), "large", tag) for tag in ("1", "2")]
        full_disks = (
            (Cause("no space for the download", large[0]), ("tmp_dir",)),
            (Cause("no space in the store", large[1]), ("root",)),
        )
        mirrors, tables = _mirrors(plain, stack.enter_context(nobody()))
        machines = tuple(_machines(stack, folder, hub))
        yield Scene([*causes, *mirrors], rejected, unsigned, full_disks, machines, tables)


def _credentials(hub: Callable[..., ScriptedRegistry]) -> Iterator[Cause]:
    accounts = {"bob": "secret"}
    basic, bearer = hub(Auth.BASIC, accounts), hub(Auth.BEARER, accounts)
    names = [one.put(BIG, "team/app", "1") for one in (basic, bearer)]
    yield Cause("401, and no credentials were given", names[0])
    yield Cause("401 with these credentials", names[0], user="eve")
    yield Cause("no token without credentials", names[1])
    yield Cause("no token with these credentials", names[1], user="eve")
    refused = hub(Auth.BEARER, accounts)
    yield Cause("403 instead of a token", refused.put(BIG, "team/app", "1"), user="bob")
    refused.script(Stage.TOKEN, Answer(403, HTML))
    for code, text in ((404, "404 instead of a token"), (503, "503 instead of a token")):
        lost = hub(Auth.BEARER)
        yield Cause(text, lost.put(BIG, "team/app", "1"))
        lost.script(Stage.TOKEN, Answer(code, HTML))


def _acts(hub: Callable[..., ScriptedRegistry]) -> Iterator[Cause]:
    for text, stage, act in _ACTS:
        one = hub()
        name = one.put(BIG, "team/app", "1")
        by_digest = isinstance(act, Change) and stage is Stage.MANIFEST
        yield Cause(text, name.removesuffix(":1") + f"@{BIG.digest}" if by_digest else name)
        reference = BIG.layers[1].digest if stage is Stage.LAYER else ""
        one.script(stage, act, reference=reference)


def _contents(hub: Callable[..., ScriptedRegistry]) -> Iterator[Cause]:
    one = hub()
    one.put(BIG, "team/app", "1")
    yield Cause("no such tag", f"{one.address}/team/app:2")
    yield Cause("no such repository", f"{one.address}/team/other:1")
    yield Cause("no such digest", f"{one.address}/team/app@sha256:{'0' * 64}")
    yield Cause("no image for this machine's platform", one.put(FOREIGN, "team/foreign", "1"))
    yield Cause("an index that lists nothing", _put(one, "team/nothing", OCI_INDEX, {"manifests": []}))
    yield Cause("layers that the configuration does not promise", one.put(LYING, "team/lying", "1"))
    chart = Blob.of("application/vnd.cncf.helm.config.v1+json", b"{}")
    content = Blob.of("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"no image")
    encrypted = Blob.of(f"{OCI_LAYER}+encrypted", bytes(range(256)) * 20)
    config = Blob.of(OCI_CONFIG, image(layer({"z": b"z"})).config.data)
    for text, repository, described, part in (
        ("an artifact that is no image", "team/chart", chart, content),
        ("an encrypted image", "team/encrypted", config, encrypted),
    ):
        one.put_blob(described.data, described.digest, Stage.CONFIG)
        one.put_blob(part.data, part.digest)
        document = {"config": described.descriptor, "layers": [part.descriptor]}
        yield Cause(text, _put(one, repository, OCI_MANIFEST, document))


def _put(hub: ScriptedRegistry, repository: str, media_type: str, document: Mapping[str, object]) -> str:
    data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
    hub.put_manifest(Blob.of(media_type, data), repository, "1")
    return f"{hub.address}/{repository}:1"


def _mirrors(mirror: ScriptedRegistry, closed: str) -> tuple[list[Cause], str]:
    """A source that is down and one that is blocked, each with a mirror that lacks the tag; and their tables."""
    tables, causes = "", []
    for host, blocked, text in (
        ("down.example.org", "false", "the mirror lacks it, and nobody listens at the registry itself"),
        ("barred.example.org", "true", "blocked, and the mirror lacks it"),
    ):
        tables += (
            f'[[registry]]\nprefix = "{host}"\nlocation = "{closed}"\nblocked = {blocked}\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "{mirror.address}/copy"\ninsecure = true\n'
        ).replace(f'location = "{closed}"', f'location = "{closed if blocked == "false" else host}"')
        causes.append(Cause(text, f"{host}/team/app:1"))
    return causes, tables


@contextlib.contextmanager
def demanding(certificates: Certificates) -> Iterator[str]:
    """Runs a server that talks to nobody without a certificate of the same authority; yields `localhost:PORT`.

    It keeps the connection after it has said so: a client that writes to a closed one may never read why.
    """
    context = certificates.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_folder / "ca.crt")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with self.request.dup() as kept, contextlib.suppress(OSError):
                with contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(self.request, server_side=True).recv(1)
                while kept.recv(65536):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()


def _machines(
    stack: contextlib.ExitStack, folder: Path, hub: Callable[..., ScriptedRegistry]
) -> Iterator[tuple[Cause, dict[str, str], dict[str, str]]]:
    places = {name: folder / name for name in ("expired", "demanding", "folder.json")}
    for place in places.values():
        place.mkdir()
    made = Certificates.make(places["expired"])
    command = "openssl req -new -key server.key -subj /CN=localhost | openssl x509 -req -signkey server.key -days -1"
    old = subprocess.run(["sh", "-c", command], cwd=places["expired"], check=True, capture_output=True).stdout
    (places["expired"] / "old.crt").write_bytes(old)
    expired = Certificates(made.ca_folder, places["expired"] / "old.crt", made.key)
    one = stack.enter_context(scripted_registry(certificates=expired))
    name = one.put(BIG, "team/app", "1").replace("127.0.0.1", "localhost")
    yield Cause("the certificate has expired", name), {"certs_dir": str(expired.ca_folder)}, {}
    asking = Certificates.make(places["demanding"])
    address = stack.enter_context(demanding(asking))
    cause = Cause("the registry wants a client certificate", f"{address}/team/app:1")
    yield cause, {"certs_dir": str(asking.ca_folder)}, {}
    for line in ("407 Proxy Authentication Required", "503 Service Unavailable"):
        proxy = stack.enter_context(answering(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()))
        environment = {"https_proxy": f"http://{proxy}", "no_proxy": ""}
        yield Cause(f"a proxy answers {line}", "registry.example.com/team/app:1"), {}, environment
    down = {"https_proxy": f"http://{stack.enter_context(nobody())}", "no_proxy": ""}
    yield Cause("nobody listens where the proxy should be", "registry.example.com/team/app:1"), {}, down
    wanting = hub(Auth.BASIC, {"bob": "secret"})
    for text, content in (
        ("an auth file that is torn", "{"),
        ("an auth file that names a helper which is not there", {"credHelpers": {wanting.address: "not-there"}}),
        ("an auth file with an entry that is no base64", {"auths": {wanting.address: {"auth": "!secret!"}}}),
    ):
        file = folder / f"{len(text)}.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        yield Cause(text, wanting.put(BIG, "team/app", str(len(text)))), {"auth_file": str(file)}, {}
    yield (
        Cause("an auth file that cannot be read", wanting.put(BIG, "team/app", "folder")),
        {"auth_file": str(places["folder.json"])},
        {},
    )


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Runs a server that says the same to everybody; yields `127.0.0.1:PORT`."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _with_tls(stack: contextlib.ExitStack, folder: Path) -> str:
    hub = stack.enter_context(scripted_registry(certificates=Certificates.make(folder)))
    # By another name than the one that registries.conf calls insecure.
    return hub.put(BIG, "team/app", "1").replace("127.0.0.1", "localhost")
