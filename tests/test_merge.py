"""Layers made one: against a model of what an engine does with them, and case by case on the bytes of the tar."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from isobench_tui.engine.images.merge import Merge
from isobench_tui.engine.images.tarfmt import Unmergeable

FOLDER, FILE, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def member(name: str, kind: bytes = FILE, content: bytes = b"", link: str = "", **fields: Any) -> tuple[Any, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), link
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar(*members: tuple[Any, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def merged(*layers: bytes, piece: int = 700) -> bytes:
    """One tar of these; read in small pieces, so that every boundary is crossed somewhere."""

    def opener(layer: bytes) -> Iterator[bytes]:
        return (layer[at : at + piece] for at in range(0, len(layer), piece))

    out: list[bytes] = []
    Merge([lambda layer=layer: opener(layer) for layer in layers], out.append).run()  # type: ignore[misc]
    return b"".join(out)


def members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as found:
        return found.getmembers()


@dataclass
class Inode:
    kind: bytes
    content: bytes
    mode: int
    mtime: float
    link: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)


class Model:
    """A file system to which layers are applied as the engine's vfs driver does (moby, pkg/archive UnpackLayer)."""

    def __init__(self) -> None:
        self.tree: dict[str, Inode] = {}

    def apply(self, layer: bytes) -> None:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            fresh: set[str] = set()
            for info in archive:
                self._one(archive, info, fresh)

    def _one(self, archive: tarfile.TarFile, info: tarfile.TarInfo, fresh: set[str]) -> None:
        name = info.name.strip("/")
        folder, slash, base = name.rpartition("/")
        parent = folder
        while parent and parent not in self.tree:
            self.tree[parent] = Inode(FOLDER, b"", 0o755, 0)
            parent = parent.rpartition("/")[0]
        if base == ".wh..wh..opq":
            for path in [path for path in self.tree if path.startswith(folder + slash) and path not in fresh]:
                del self.tree[path]
            return
        if base.startswith(".wh."):
            self._remove(folder + slash + base[4:])
            return
        old = self.tree.get(name)
        if old is not None and not (old.kind == info.type == FOLDER):
            self._remove(name)
        xattrs = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY")}
        if info.type == LINK:
            inode = self.tree[info.linkname]
            inode.mode, inode.mtime = info.mode, info.mtime
            inode.xattrs |= xattrs
            self.tree[name] = inode
        else:
            source = archive.extractfile(info) if info.isfile() else None
            content = source.read() if source else b""
            self.tree[name] = Inode(info.type, content, info.mode, info.mtime, info.linkname, xattrs)
        fresh.add(name)

    def _remove(self, name: str) -> None:
        for path in [path for path in self.tree if path == name or path.startswith(name + "/")]:
            del self.tree[path]

    def facts(self) -> tuple[dict[str, Inode], set[frozenset[str]]]:
        groups: dict[int, set[str]] = {}
        for path, inode in self.tree.items():
            if inode.kind != FOLDER:
                groups.setdefault(id(inode), set()).add(path)
        return self.tree, {frozenset(group) for group in groups.values()}


def applied(*layers: bytes) -> tuple[dict[str, Inode], set[frozenset[str]]]:
    model = Model()
    for layer in layers:
        model.apply(layer)
    return model.facts()


NAMES = ["a", "b", "c"]
PATHS = [
    *NAMES,
    *(f"{x}/{y}" for x in NAMES for y in NAMES),
    *(f"{x}/{y}/{z}" for x in NAMES for y in "ab" for z in "ab"),
]


@dataclass(frozen=True, repr=False)
class Image:
    """Layers, and what is in them for those who read of a failure."""

    layers: list[bytes]
    words: list[list[str]]

    def __repr__(self) -> str:
        return "".join(f"\nlayer {number}: {words}" for number, words in enumerate(self.words))


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Layers that an engine can apply: what they link to and remove is there, and nothing lies under a file."""
    model, layers = Model(), []
    for number in range(draw(st.integers(1, 4))):
        written: list[tuple[Any, bytes]] = []
        for path in draw(st.lists(st.sampled_from(PATHS), max_size=2, unique=True)):
            folder, slash, base = path.rpartition("/")
            if path in model.tree:
                written.append(member(f"{folder}{slash}.wh.{base}"))
            elif folder in model.tree and model.tree[folder].kind == FOLDER:
                written.append(member(f"{folder}/.wh..wh..opq"))
        trial = Model()
        trial.tree = dict(model.tree)
        trial.apply(tar(*written))
        own = {info.name for info, _ in written}
        for count in range(draw(st.integers(0, 8))):
            path = draw(st.sampled_from(PATHS))
            folder = path.rpartition("/")[0]
            parents = {folder, folder.rpartition("/")[0]} - {""}
            if path in own or any(trial.tree[x].kind != FOLDER for x in parents if x in trial.tree):
                continue
            kind = draw(st.sampled_from([FILE, FILE, LINK, LINK, FOLDER, SYMLINK]))
            fields: dict[str, Any] = {"mode": draw(st.sampled_from([0o600, 0o755])), "mtime": 100 * number + count}
            if draw(st.booleans()):
                fields["pax_headers"] = {"SCHILY.xattr.user.n": f"{number}.{count}"}
            link = ""
            if kind == LINK:
                targets = sorted(
                    x
                    for x, inode in trial.tree.items()
                    if inode.kind != FOLDER and not (x + "/").startswith(path + "/")
                )
                if not targets:
                    continue
                link = draw(st.sampled_from(targets))
                fields = {"mode": trial.tree[link].mode, "mtime": trial.tree[link].mtime}
            content = f"{number}.{count}".encode() * 200 if kind == FILE else b""
            made = member(path, kind, content, link or ("to" if kind == SYMLINK else ""), **fields)
            if kind != FOLDER and any(x.startswith(path + "/") for x in own):
                continue
            written.append(made)
            own.add(path)
            trial.apply(tar(made))
        layers.append(tar(*written))
        model.apply(layers[-1])
    words = [
        [
            f"{info.type.decode()} {info.name} {info.linkname} {info.mode:o} {info.mtime} {info.pax_headers or ''}"
            for info in members(layer)
        ]
        for layer in layers
    ]
    return Image(layers, words)


@settings(max_examples=100, deadline=None)
@given(images())
def test_one_tar_amounts_to_its_layers(image: Image) -> None:
    want = applied(*image.layers)
    one = merged(*image.layers)
    event(f"{len(want[0])} paths")
    assert applied(one) == want
    assert not any("/.wh." in f"/{info.name}" for info in members(one))


@pytest.mark.parametrize("removal", [".wh.b", "b/.wh.a", "b/.wh..wh..opq", ".wh..wh..opq"])
def test_folders_that_a_layer_looks_into_and_then_removes_are_gone(removal: str) -> None:
    layers = tar(member("b/a/a")), tar(member("b/a/.wh.a"), member(removal))
    assert applied(merged(*layers)) == applied(*layers)


LOWER = tar(
    member("f", content=b"old"),
    member("x/", FOLDER, mode=0o755),
    member("x/old"),
    member("x/y/", FOLDER, mode=0o755),
    member("x/y/old"),
)


@pytest.mark.parametrize(
    "upper",
    [
        [member(".wh.f"), member("f", content=b"new")],
        [member(".wh.x"), member("x/", FOLDER, mode=0o700), member("x/new")],
        [member(".wh.x"), member("x/new")],
        [member(".wh.x"), member("x", content=b"a file")],
        [member("g", LINK, link="f"), member(".wh.f")],
        [member("x/y/", FOLDER, mode=0o755), member("x/y/new"), member("x/.wh..wh..opq")],
    ],
)
def test_what_a_layer_removes_and_makes_anew_has_nothing_of_the_old(upper: list[tuple[Any, bytes]]) -> None:
    assert applied(merged(LOWER, tar(*upper))) == applied(LOWER, tar(*upper))


@pytest.mark.parametrize(
    ("upper", "why"),
    [
        ([member("f", content=b"new"), member(".wh.f")], "after it put it there"),
        ([member("x/new"), member(".wh.x")], "after it put it there"),
        ([member("x/", FOLDER), member(".wh.x")], "after it put it there"),
        ([member("x/y/new"), member("x/.wh..wh..opq")], "folders that it does not name"),
        ([member("x/y/new"), member(".wh..wh..opq")], "folders that it does not name"),
        ([member(".wh.f"), member("g", LINK, link="f")], "its own layer has removed"),
        ([member(".wh.x"), member("g", LINK, link="x/y/old")], "its own layer has removed"),
        ([member("x/.wh..wh..opq"), member("g", LINK, link="x/y/old")], "its own layer has removed"),
    ],
)
def test_an_order_within_a_layer_that_engines_disagree_about_is_refused(
    upper: list[tuple[Any, bytes]], why: str
) -> None:
    with pytest.raises(Unmergeable, match=why):
        merged(LOWER, tar(*upper))


def test_a_link_to_what_a_layer_between_removes_is_refused() -> None:
    with pytest.raises(Unmergeable, match="a layer under it removes"):
        merged(LOWER, tar(member(".wh.x")), tar(member("g", LINK, link="x/y/old")))
