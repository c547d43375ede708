"""Several layers made one: the tar of the root file system that they amount to, in one pass from the top down.

Layers say what they change: entries, and whiteouts for what they remove from below (OCI image specification, "Image
Layer Filesystem Changeset"). Read from the top, an entry counts unless something above it has hidden its path, so
what counts can be passed on at once, as the very blocks that came: names, owners, times, extended attributes and
devices need no look. Only hard links do. A link from an upper layer into a lower one waits for its target; a target
that is itself hidden is passed on under the name of the first link to it; and where a hidden file turns out to be
linked to further on in the same layer, its content has gone by, and that layer is read once more.

Of a file with several names, each entry is taken to carry the same owner, mode and times, as tar writes them: what
only a removed name said of its file is lost. Memory: the paths of all entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from isobench_tui.engine.images import tarfmt
from isobench_tui.engine.images.tarfmt import FOLDER, LINK, SYMLINK, Entry, Unmergeable
from isobench_tui.engine.images.window import Piece, Window

_PIECE = 1 << 20
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."

Opener = Callable[[], Iterator[bytes]]
"""Begins to read a layer: its tar, unpacked, piece by piece."""


@dataclass(slots=True)
class Alias:
    """A name that a LINK gives to a file which is not passed on under the link's own target."""

    path: bytes
    entry: Entry
    """The LINK's own."""


@dataclass(slots=True)
class _Layer:
    """What one layer did so far; it hides what is below only when the layer is through."""

    wanted: dict[bytes, list[Alias]]
    """From layers above: path in this one -> links that wait for what lies there."""
    files: set[bytes] = field(default_factory=set)
    """Paths that are no folders in this layer, or that it removes: nothing below shows there, nor under them."""
    folders: set[bytes] = field(default_factory=set)
    own: set[bytes] = field(default_factory=set)
    """Paths of its entries, whiteouts apart."""
    holds: set[bytes] = field(default_factory=set)
    """Folders that those lie in."""
    opaque: set[bytes] = field(default_factory=set)
    """Folders under which nothing from below shows."""
    walked: set[bytes] = field(default_factory=set)
    """Folders that entries of this layer lie in."""
    implied: set[bytes] = field(default_factory=set)
    """Those that show."""
    home: dict[bytes, bytes] = field(default_factory=dict)
    """Path in this layer -> where its file was passed on."""
    dropped: dict[bytes, int] = field(default_factory=dict)
    """Path of a file that went by -> number of its entry."""
    owed: dict[int, list[Alias]] = field(default_factory=dict)
    """Number of such an entry -> links that came later."""
    waiting: dict[bytes, list[Alias]] = field(default_factory=dict)
    """Path of a LINK whose file is not passed on yet -> all that wait for that file, in `owed` or `below`."""
    below: dict[bytes, list[Alias]] = field(default_factory=dict)
    """Path in a lower layer -> links that wait for what lies there."""
    met: set[bytes] = field(default_factory=set)
    """Wanted paths that came."""
    symlinks: set[bytes] = field(default_factory=set)

    def owns(self, path: bytes) -> None:
        """An entry that is no whiteout came."""
        self.own.add(path)
        folder = path.rpartition(b"/")[0]
        while folder not in self.holds:
            self.holds.add(folder)
            folder = folder.rpartition(b"/")[0]

    def removes(self, path: bytes) -> bool:
        """Of lower layers nothing is left at this path."""
        if path in self.files:
            return True
        while path:
            path = path.rpartition(b"/")[0]
            if path in self.files or path in self.opaque:
                return True
        return False

    def gone(self, path: bytes) -> None:
        """Whatever folder was at this path is none any more, and what lay in it is gone too."""
        self.files.add(path)
        if path in self.walked:
            self.walked.discard(path)
            self.implied.discard(path)
            self.emptied(path)

    def emptied(self, folder: bytes) -> None:
        """Folders in this one that the layer only looked into are gone."""
        if inside := {path for path in self.walked if path and path.startswith(folder + b"/" if folder else b"")}:
            self.walked -= inside
            self.implied -= inside


class Merge:
    """One merge. `layers`: the lowest first. `sink` takes the tar in pieces of a MiB or more.

    `entries` counts what was read of all layers.
    """

    def __init__(self, layers: Sequence[Opener], sink: Callable[[bytes], object]) -> None:
        self._layers = layers
        self._sink = sink
        self._files: set[bytes] = set()
        self._folders: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._implied: set[bytes] = set()
        self._made = {b""}
        """Folders that something passed on lies in."""
        self._closed: dict[bytes, bool] = {}
        self._out: list[Piece] = []
        self._size = 0
        self.entries = 0

    def run(self) -> None:
        """Merge. It blocks: call it in a thread. Raises Unmergeable, and whatever the sink raises."""
        wanted: dict[bytes, list[Alias]] = {}
        for opener in reversed(self._layers):
            layer = _Layer(wanted)
            self._read(opener, layer)
            if owed := {number: names for number, names in layer.owed.items() if names}:
                self._again(opener, owed)
            wanted = self._through(layer)
        if wanted:
            raise Unmergeable(f"a hard link leads to {next(iter(wanted))!r}, which no layer has")
        # The engine makes the others as it does for single layers, with what mode it likes.
        for path in sorted(self._implied - self._folders - self._made):
            self._put(tarfmt.folder(path))
        self._put(tarfmt.ZERO * 2)
        self._flush()

    def _read(self, opener: Opener, layer: _Layer) -> None:
        window = Window(opener(), self._put)
        self._closed = {b"": b"" in self._opaque}
        number = 0
        while (entry := tarfmt.read(window)) is not None:
            self._entry(window, layer, entry, number)
            number += 1
        window.end()
        self.entries += number

    def _entry(self, window: Window, layer: _Layer, entry: Entry, number: int) -> None:
        folder, slash, base = entry.path.rpartition(b"/")
        self._imply(layer, folder)
        if base.startswith(_WHITEOUT):
            self._whiteout(layer, folder, slash, base)
            window.drop(entry.taken + entry.size)
            return
        self._check(layer, folder)
        path = entry.path
        layer.owns(path)
        if path in layer.waiting:
            self._forget(layer, path)
        shown = path not in self._folders and not self._hidden(path, folder)
        if entry.kind == FOLDER:
            if shown:
                self._keep(window, entry)
                self._lies_in(folder)
                layer.folders.add(path)
            else:
                window.drop(entry.taken)
            return
        if shown and path in self._implied:
            raise Unmergeable(f"{path!r} is no folder in a lower layer, but an upper one has files in it")
        layer.gone(path)
        if entry.kind == SYMLINK:
            layer.symlinks.add(path)
        aliases = self._claims(layer, path)
        if entry.kind == LINK:
            window.drop(entry.taken)
            self._link(window, layer, entry, [Alias(path, entry), *aliases] if shown else aliases)
        elif shown:
            self._keep(window, entry)
            self._lies_in(folder)
            layer.home[path] = path
            self._links(window, path, aliases)
        elif aliases:
            window.drop(entry.taken)
            window.insert(entry.adopted(aliases[0].entry, aliases[0].path))
            self._lies_in(aliases[0].path.rpartition(b"/")[0])
            window.keep(entry.size)
            layer.home[path] = aliases[0].path
            self._links(window, aliases[0].path, aliases[1:])
        else:
            window.drop(entry.taken + entry.size)
            layer.dropped[path] = number
            layer.home.pop(path, None)

    def _link(self, window: Window, layer: _Layer, entry: Entry, names: list[Alias]) -> None:
        """A LINK was read, and its file is to have these names."""
        path, target = entry.path, entry.link
        layer.dropped.pop(path, None)
        layer.home.pop(path, None)
        if target in layer.home:
            layer.home[path] = layer.home[target]
            self._links(window, layer.home[target], names)
            return
        waiting = layer.waiting.get(target)
        if waiting is None and target in layer.dropped:
            waiting = layer.owed.setdefault(layer.dropped[target], [])
        elif waiting is None:
            if layer.removes(target):
                raise Unmergeable(f"a hard link leads to {target!r}, which its own layer has removed")
            waiting = layer.below.setdefault(target, [])
        waiting.extend(names)
        layer.waiting[path] = waiting

    def _links(self, window: Window, home: bytes, names: Sequence[Alias]) -> None:
        for alias in names:
            entry = alias.entry
            as_it_came = alias.path == entry.path and home == entry.link
            window.insert(entry.raw if as_it_came else entry.linked(alias.path, home))
            self._lies_in(alias.path.rpartition(b"/")[0])

    def _claims(self, layer: _Layer, path: bytes) -> list[Alias]:
        if path not in layer.wanted:
            return []
        layer.met.add(path)
        return layer.wanted[path]

    def _whiteout(self, layer: _Layer, folder: bytes, slash: bytes, base: bytes) -> None:
        if base == _OPAQUE:
            inside = folder + b"/" if folder else b""
            if any(path and path.startswith(inside) and path not in layer.own for path in layer.holds):
                raise Unmergeable(f"a layer empties {folder!r} after it put files into folders that it does not name")
            layer.opaque.add(folder)
            layer.emptied(folder)
        elif base.startswith(_META) or base == _WHITEOUT:
            raise Unmergeable(f"{folder + slash + base!r} is no whiteout of the OCI specification")
        else:
            path = folder + slash + base.removeprefix(_WHITEOUT)
            if path in layer.own or path in layer.holds:
                raise Unmergeable(f"a layer removes {path!r} after it put it there")
            layer.gone(path)

    def _check(self, layer: _Layer, folder: bytes) -> None:
        """Refuse what would be written through a symbolic link: where it ends up is for a file system to say."""
        while layer.symlinks and folder:
            if folder in layer.symlinks:
                raise Unmergeable(f"a layer writes through its own symbolic link {folder!r}")
            folder = folder.rpartition(b"/")[0]

    def _forget(self, layer: _Layer, path: bytes) -> None:
        """The layer has another entry for the path of a LINK that waits: that one counts."""
        del layer.waiting[path]
        gone = {path, *(alias.path for alias in layer.wanted.get(path, ()))}
        for names in (*layer.below.values(), *layer.owed.values()):
            names[:] = [alias for alias in names if alias.path not in gone]

    def _hidden(self, path: bytes, folder: bytes) -> bool:
        return bool(path) and (path in self._files or self._under(folder))

    def _under(self, folder: bytes) -> bool:
        """Nothing in this folder shows."""
        known = self._closed.get(folder)
        if known is None:
            parent = folder.rpartition(b"/")[0]
            known = folder in self._files or folder in self._opaque or self._under(parent)
            self._closed[folder] = known
        return known

    def _imply(self, layer: _Layer, folder: bytes) -> None:
        """An engine that applies the layer makes the folders that its entries lie in, whatever becomes of those."""
        while folder not in layer.walked:
            layer.walked.add(folder)
            parent = folder.rpartition(b"/")[0]
            if not self._hidden(folder, parent):
                layer.implied.add(folder)
            folder = parent

    def _lies_in(self, folder: bytes) -> None:
        while folder not in self._made:
            self._made.add(folder)
            folder = folder.rpartition(b"/")[0]

    def _through(self, layer: _Layer) -> dict[bytes, list[Alias]]:
        """The layer is through: it hides what lies below. What is wanted from there is left."""
        self._files |= layer.files
        self._folders |= layer.folders
        self._opaque |= layer.opaque
        self._implied |= layer.implied
        left = {path: names for path, names in layer.wanted.items() if path not in layer.met}
        for path, names in layer.below.items():
            if not names:
                continue
            left[path] = [*left.get(path, []), *names]
        for path in left:
            if path not in layer.below and layer.removes(path):
                raise Unmergeable(f"a hard link leads to {path!r}, which a layer under it removes")
        return left

    def _again(self, opener: Opener, owed: dict[int, list[Alias]]) -> None:
        """Read a layer once more for files that went by before a link to them came."""
        window = Window(opener(), self._put)
        number = 0
        while owed and (entry := tarfmt.read(window)) is not None:
            names = owed.pop(number, None)
            number += 1
            window.drop(entry.taken)
            if names is None:
                window.drop(entry.size)
                continue
            window.insert(entry.adopted(names[0].entry, names[0].path))
            self._lies_in(names[0].path.rpartition(b"/")[0])
            window.keep(entry.size)
            self._links(window, names[0].path, names[1:])
        window.end()

    def _keep(self, window: Window, entry: Entry) -> None:
        if len(entry.raw) == entry.taken:
            window.keep(entry.taken + entry.size)
        else:
            window.drop(entry.taken)
            window.insert(entry.raw)
            window.keep(entry.size)

    def _put(self, piece: Piece) -> None:
        self._out.append(piece)
        self._size += len(piece)
        if self._size >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        self._sink(b"".join(self._out))
        self._out.clear()
        self._size = 0
