"""Asking registries: what their headers and JSON mean, and a real one behind a proxy that makes it difficult."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dockerd import SCHEMA, Registry, free_port
from hypothesis import given
from hypothesis import strategies as st
from proxy import Proxy

from isobench_tui.engine.base import ImageConfig, ImageMissing, PullFailed
from isobench_tui.engine.images import manifest
from isobench_tui.engine.images.again import Passing, retry_after, tried
from isobench_tui.engine.images.credentials import Challenge, Login, challenges, engine_header, login
from isobench_tui.engine.images.hosts import Setup, setup_of
from isobench_tui.engine.images.manifest import Platform
from isobench_tui.engine.images.names import Name, parse, repository, tag_of
from isobench_tui.engine.images.registry import Registries, Unreachable, unpacked_size

OCI = "application/vnd.oci.image"
HERE = Setup(Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)))


@pytest.mark.parametrize(
    ("ref", "name", "tag"),
    [
        ("app", "app", "latest"),
        ("docker.io/library/python:3.11", "python", "3.11"),
        ("index.docker.io/me/app:1", "me/app", "1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "latest"),
        ("127.0.0.1:5000/a/b:2@sha256:00", "127.0.0.1:5000/a/b", "2"),
    ],
)
def test_references(ref: str, name: str, tag: str) -> None:
    assert (repository(ref), tag_of(ref)) == (name, tag)


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("python:3.11", Name("docker.io", "library/python", "3.11")),
        ("docker.io/me/app", Name("docker.io", "me/app", "latest")),
        ("localhost/app:1", Name("localhost", "app", "1")),
        ("ghcr.io/a/b/c@sha256:00", Name("ghcr.io", "a/b/c", "latest", "sha256:00")),
        ("[::1]:5000/app:2", Name("[::1]:5000", "app", "2")),
        ("UPPER/case:1", Name("UPPER", "case", "1")),
    ],
)
def test_where_a_reference_leads(ref: str, name: Name) -> None:
    assert parse(ref) == name


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://auth.docker.io/token", "service": "registry.docker.io",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('Basic realm="say \\"please\\", or = not"', [("basic", {"realm": 'say "please", or = not'})]),
        ("Negotiate, Basic realm=x, NTLM", [("negotiate", {}), ("basic", {"realm": "x"}), ("ntlm", {})]),
        ('Bearer service=s , Realm="r"', [("bearer", {"service": "s", "realm": "r"})]),
        ("Basic", [("basic", {})]),
        ("", []),
    ],
)  # fmt: skip
def test_what_registries_ask_for(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert challenges(header) == [Challenge(scheme, parameters) for scheme, parameters in found]


@given(st.text(alphabet='Bearer basic=",\\realm\t', max_size=80))
def test_no_header_breaks_the_reader(header: str) -> None:
    challenges(header)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("-1", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), (None, None)],
)
def test_when_to_come_back(text: str | None, seconds: float | None) -> None:
    assert retry_after(text) == seconds


async def test_only_failures_without_progress_are_counted() -> None:
    calls, steps = 0, iter([0, 1, 1, 2, 2, 2, 2])

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise Passing("no")

    with pytest.raises(Passing):
        await tried(work, backoff=0, attempts=3, progressed=lambda: next(steps))
    assert calls == 5


def test_what_the_engine_says_of_registries() -> None:
    mirror, index = "https://mirror.lan/", {"Name": "plain.lan:5000", "Secure": False}
    registries = {
        "Mirrors": [mirror],
        "InsecureRegistryCIDRs": ["10.0.0.0/8"],
        "IndexConfigs": {"plain.lan:5000": index},
    }
    found = setup_of({"OSType": "linux", "Architecture": "aarch64", "RegistryConfig": registries})
    assert found.platform == Platform("linux", "arm64", "v8")
    assert found.insecure == {"plain.lan:5000"}


@pytest.mark.parametrize(
    ("registry", "places"),
    [
        (
            "docker.io",
            [("mirror.lan", "https://mirror.lan", False), ("docker.io", "https://registry-1.docker.io", False)],
        ),
        ("plain.lan:5000", [("plain.lan:5000", "https://plain.lan:5000", True)]),
        ("10.1.2.3", [("10.1.2.3", "https://10.1.2.3", True)]),
        ("[::1]:80", [("[::1]:80", "https://[::1]:80", False)]),
        ("localhost:5000", [("localhost:5000", "https://localhost:5000", True)]),
    ],
)
async def test_which_places_are_asked(registry: str, places: list[tuple[str, str, bool]]) -> None:
    registries = {
        "Mirrors": ["https://mirror.lan/"],
        "InsecureRegistryCIDRs": ["10.0.0.0/8", "127.0.0.0/8"],
        "IndexConfigs": {"plain.lan:5000": {"Secure": False}},
    }
    found = await setup_of({"RegistryConfig": registries}).hosts(registry)
    assert [(host.registry, host.url, host.insecure) for host in found] == places


def index(*platforms: tuple[str, str, str]) -> bytes:
    entries = [
        {
            "mediaType": f"{OCI}.manifest.v1+json",
            "digest": f"sha256:{number:064x}",
            "size": 1,
            "platform": {"os": system, "architecture": machine, **({"variant": variant} if variant else {})},
        }
        for number, (system, machine, variant) in enumerate(platforms)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}).encode()


ALL = index(
    ("unknown", "unknown", ""), ("linux", "arm64", "v8"), ("linux", "amd64", ""), ("linux", "arm", "v6"),
    ("linux", "arm", "v7"), ("windows", "amd64", ""),
)  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "number"),
    [
        (Platform("linux", "amd64"), 2),
        (Platform("linux", "arm64"), 1),
        (Platform("linux", "arm64", "v8"), 1),
        (Platform("linux", "arm", "v6"), 3),
        (Platform("linux", "arm"), 4),
    ],
)
def test_the_engines_platform_is_chosen(platform: Platform, number: int) -> None:
    found = manifest.read("app", ALL, platform)
    assert isinstance(found, manifest.Descriptor)
    assert found.digest == f"sha256:{number:064x}"


LAYER = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": f"sha256:{'a' * 64}", "size": 7}
CONFIG = {"mediaType": f"{OCI}.config.v1+json", "digest": f"sha256:{'b' * 64}", "size": 2}


def described(**changes: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **changes}).encode()


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (index(("linux", "s390x", "")), ImageMissing, "no image for linux/amd64, only for linux/s390x"),
        (index(), ImageMissing, "only for no platform"),
        (json.dumps({"schemaVersion": 1, "fsLayers": []}).encode(), ImageMissing, "schema 1"),
        (described(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), ImageMissing, "helm"),
        (described(layers=[{**LAYER, "mediaType": "application/octet-stream"}]), ImageMissing, "octet-stream"),
        (described(layers=[{**LAYER, "size": -1}]), PullFailed, "layers.0.size"),
        (described(layers=[{**LAYER, "digest": "sha256:../../etc"}]), PullFailed, "layers.0.digest"),
        (b"<html>", PullFailed, "JSON"),
        (b"[]", PullFailed, "JSON"),
    ],
)
def test_what_is_no_image_is_said_so(body: bytes, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        manifest.read("app", body, Platform("linux", "amd64"))


def test_a_configuration_may_leave_things_out() -> None:
    found = manifest.read("app", described(), Platform())
    assert isinstance(found, manifest.Manifest)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{'c' * 64}"]}
    layers, wants = manifest.layers_of("app", found, json.dumps({"rootfs": rootfs}).encode())
    assert (layers[0].digest, layers[0].size, layers[0].diff_id) == (LAYER["digest"], 7, rootfs["diff_ids"][0])
    assert wants == ImageConfig()
    config: dict[str, Any] = {
        "Env": ["A=/x:$HOME"],
        "Cmd": None,
        "Labels": None,
        "WorkingDir": "/w",
        "Volumes": {"/v": {}},
    }
    _, wants = manifest.layers_of("app", found, json.dumps({"rootfs": rootfs, "config": config}).encode())
    assert wants == ImageConfig(env=("A=/x:$HOME",), workdir="/w", volumes=("/v",))
    with pytest.raises(PullFailed, match="1 layers, but its configuration speaks of 0"):
        manifest.layers_of("app", found, b'{"rootfs": {"diff_ids": []}}')


GIB = 1 << 30


@pytest.mark.parametrize(
    ("packed", "unpacked"),
    [
        (1000, 900_000),
        (3000, 2950),
        (GIB, int(2.4 * GIB)),
        (2 * GIB, int(4.5 * GIB)),
        (4 * GIB, 9 * GIB),
    ],
)
def test_a_layers_size_is_told_by_its_end(packed: int, unpacked: int) -> None:
    assert unpacked_size(packed, unpacked % (1 << 32)) == unpacked


def test_a_file_of_many_parts_tells_no_size() -> None:
    assert unpacked_size(100 << 20, 512) is None


@pytest.fixture
async def client() -> AsyncIterator[Registries]:
    async def nobody(_: str) -> Login | None:
        return None

    made = Registries(nobody, backoff=0.01)
    yield made
    await made.close()


async def test_layers_and_sizes_before_the_pull(client: Registries, registry: Registry) -> None:
    contents = [os.urandom(3000), bytes(200_000)]
    digest = registry.publish("told/sizes:1", contents)
    found = await client.find(parse(registry.name("told/sizes:1")), HERE)
    assert (found.digest, found.config, len(found.layers)) == (digest, ImageConfig(), 2)
    for layer, told in zip(found.layers, await client.sized(found), strict=True):
        _, blob = registry.request("GET", f"/v2/told/sizes/blobs/{layer.digest}")
        assert (layer.size, layer.diff_id) == (len(blob), manifest.sha256(gzip.decompress(blob)))
        assert told.unpacked == len(gzip.decompress(blob))
    by_digest = await client.find(parse(f"{registry.name('told/sizes')}@{digest}"), HERE)
    assert by_digest.layers == found.layers
    async with client.blob(found, found.layers[0].digest, 10, 19) as response:
        assert (response.status, len(await response.read())) == (206, 10)


async def test_an_index_leads_to_our_platform(client: Registries, registry: Registry) -> None:
    ours = registry.publish("many/platforms:mine", [b"mine"])
    other = registry.publish("many/platforms:other", [b"other"])
    entries = [
        {"mediaType": f"{SCHEMA}.distribution.manifest.v2+json", "digest": digest, "size": 1, "platform": platform}
        for digest, platform in (
            (other, {"os": "linux", "architecture": "s390x"}),
            (ours, {"os": "linux", "architecture": HERE.platform.architecture}),
        )
    ]
    kind = f"{SCHEMA}.distribution.manifest.list.v2+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    registry.request("PUT", "/v2/many/platforms/manifests/all", body, Content_Type=kind)
    found = await client.find(parse(registry.name("many/platforms:all")), HERE)
    alone = await client.find(parse(registry.name("many/platforms:mine")), HERE)
    assert found.digest == manifest.sha256(body)
    assert found.layers == alone.layers
    with pytest.raises(ImageMissing, match="only for"):
        await client.find(parse(registry.name("many/platforms:all")), Setup(Platform("linux", "riscv64")))


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        (503, {}),
        (429, {"head": "Retry-After: 0\r\n"}),
        ("cut", {"at": 0}),
        ("cut", {"at": 50}),
        ("damage", {"at": 50}),
    ],
)
async def test_what_passes_is_borne(
    client: Registries, registry: Registry, action: Any, fields: dict[str, Any]
) -> None:
    digest = registry.publish("bears/much:1", [b"content"])
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        spoilt = proxy.rule(r"^GET \S*/blobs/", action, times=2, **fields)  # the configuration
        found = await client.find(parse(f"127.0.0.1:{proxy.port}/bears/much:1"), HERE)
        assert (found.digest, spoilt.seen) == (digest, 2)


async def test_a_manifest_that_is_not_what_was_pinned_is_refused(client: Registries, registry: Registry) -> None:
    digest = registry.publish("other/than:1", [random.randbytes(10)])
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        proxy.rule(r"/manifests/", 200, body=b'{"schemaVersion": 2}')
        with pytest.raises(PullFailed, match="came with the sha256"):
            await client.find(parse(f"127.0.0.1:{proxy.port}/other/than@{digest}"), HERE)


async def test_a_registry_that_never_gets_well(client: Registries, registry: Registry) -> None:
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        sick = proxy.rule(r"/manifests/", 500)
        with pytest.raises(Passing, match="500"):
            await client.find(parse(f"127.0.0.1:{proxy.port}/x:1"), HERE)
        assert sick.seen == 5
    with pytest.raises(Unreachable):
        await client.find(parse(f"127.0.0.1:{free_port()}/x:1"), HERE)
    with pytest.raises(ImageMissing, match="404"):
        await client.find(parse(registry.name("never/pushed:1")), HERE)


class Known:
    """Logins for tests: what it was asked for, and the answer."""

    def __init__(self, answer: Login | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Login | None:
        self.asked.append(name)
        return self.answer


@pytest.mark.parametrize("who", [None, Login("reader", "pässword:1"), Login(identity="refresh-me")])
async def test_tokens_are_fetched_once_and_used(registry: Registry, who: Login | None) -> None:
    registry.publish("a/b:1", [b"1", b"2"])
    known = Known(who)
    client = Registries(known, backoff=0.01)
    with Proxy(("127.0.0.1", registry.port)) as proxy:
        proxy.want_token("opaque-123")
        found = await client.find(parse(f"127.0.0.1:{proxy.port}/a/b:1"), HERE)
        assert [layer.unpacked for layer in await client.sized(found)]
        assert known.asked == [f"127.0.0.1:{proxy.port}"]
        assert proxy.tokens.seen == 1
        method, query = proxy.tokens.heads[0].split()[:2]
        if who is not None and who.identity:
            assert method == "POST"
        else:
            assert (method, query) == ("GET", "/token?scope=repository:a/b:pull,push&service=tests")
            sent = base64.b64encode("reader:pässword:1".encode()).decode()
            assert (f"Basic {sent}" in proxy.tokens.heads[0]) == (who is not None)
    await client.close()


async def test_basic_authentication(locked_registry: Registry) -> None:
    locked_registry.headers["Authorization"] = f"Basic {base64.b64encode(b'reader:secret-word').decode()}"
    digest = locked_registry.publish("private:1", [b"1"])
    name = parse(locked_registry.name("private:1"))
    for who, works in ((Login("reader", "secret-word"), True), (Login("reader", "wrong"), False), (None, False)):
        client = Registries(Known(who), backoff=0.01)
        if works:
            assert (await client.find(name, HERE)).digest == digest
        else:
            with pytest.raises(ImageMissing, match="docker login"):
                await client.find(name, HERE)
        await client.close()


async def test_a_mirror_is_asked_first_and_may_fail(client: Registries, registry: Registry) -> None:
    digest = registry.publish("library/mirrored:1", [b"1"])
    ill = f"http://127.0.0.1:{free_port()}"
    setup = Setup(HERE.platform, mirrors=(ill, f"http://{registry.address}/"))
    found = await client.find(parse("mirrored:1"), setup)
    assert (found.digest, found.host.url) == (digest, f"http://{registry.address}")


HELPER = """#!/bin/sh
read -r server
[ "$server" = known.lan ] || { echo "credentials not found in native keychain"; exit 1; }
echo '{"ServerURL": "known.lan", "Username": "USER", "Secret": "hidden"}'
"""


@pytest.mark.parametrize(("user", "found"), [("me", Login("me", "hidden")), ("<token>", Login(identity="hidden"))])
def test_logins_of_the_docker_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, found: Login
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert login("known.lan") is None
    helper = tmp_path / "docker-credential-isobench-test"
    helper.write_text(HELPER.replace("USER", user))
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    plain = base64.b64encode(b"hub:word").decode()
    auths = {"https://index.docker.io/v1/": {"auth": plain}, "token.lan": {"identitytoken": "t"}}
    for keys in ({"credsStore": "isobench-test"}, {"credHelpers": {"known.lan": "isobench-test"}}):
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths, **keys}))
        assert login("known.lan") == found
        assert login("docker.io") == Login("hub", "word")
        assert login("token.lan") == Login(identity="t")
        assert login("unknown.lan") is None
    header = engine_header("known.lan")
    assert header is not None
    assert "hidden" in base64.urlsafe_b64decode(header).decode()
    assert "hidden" not in repr(found)
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"bad.lan": {"auth": "%"}}}))
    with pytest.raises(PullFailed, match=r"bad\.lan"):
        login("bad.lan")
