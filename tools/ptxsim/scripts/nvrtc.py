#!/usr/bin/env python3
"""Fetches NVIDIA's run-time compiler and compiles CUDA to PTX with it. Needs no GPU and no toolkit.

    nvrtc.py fetch [--into DIR]                             prints the directory with lib/ and include/
    nvrtc.py compile FILE.cu --arch compute_80 -o OUT.ptx [--into DIR] [-D NAME=VALUE ...]

A CUDA toolkit (CUDA_HOME, or the nvcc in PATH) is used where there is one. Otherwise two wheels, pinned
by their SHA-256, are downloaded from PyPI once and unpacked into DIR (target/nvrtc unless given). They
are NVIDIA's, under NVIDIA's licence: a build tool, never committed.
"""

import argparse
import ctypes
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

# Package and the SHA-256 of its wheel for Linux on x86-64.
WHEELS = {
    "nvidia-cuda-nvrtc 13.0.88": "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    "nvidia-cuda-runtime 13.0.96": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
}
DEFAULT = Path("target/nvrtc")


class Failed(Exception):
    """What went wrong, for the user."""


def toolkit() -> Path | None:
    """The CUDA toolkit of this machine, if it has one with NVRTC."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), Path(nvcc).resolve().parents[1] if nvcc else None]
    return next((Path(home) for home in homes if home and library(Path(home), "libnvrtc.so*")), None)


def library(home: Path, pattern: str) -> Path | None:
    """The newest library of that name in a toolkit or in an unpacked wheel."""
    found = [p for d in ("lib64", "lib", "targets/x86_64-linux/lib") for p in (home / d).glob(pattern)]
    found = [p for p in found if ".alt." not in p.name]
    return max(found, key=lambda p: p.resolve().name, default=None)


def download(package: str, digest: str, into: Path) -> Path:
    """The wheel with this digest, from the package's page of PyPI's index."""
    name = package.split()[0]
    url = f"https://pypi.org/simple/{name}/"
    wanted = {"Accept": "application/vnd.pypi.simple.v1+json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=wanted), timeout=60) as reply:
            files = json.load(reply)["files"]
        address = next((f["url"] for f in files if f["hashes"].get("sha256") == digest), None)
        if address is None:
            raise Failed(f"{url} has no file with SHA-256 {digest} ({package}): has it been withdrawn?")
        path = into / address.rsplit("/", 1)[1]
        with urllib.request.urlopen(address, timeout=60) as reply, path.open("wb") as file:
            shutil.copyfileobj(reply, file, 1 << 20)
    except (OSError, ValueError, KeyError) as error:
        raise Failed(f"cannot download {package} from PyPI: {error}") from error
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != digest:
        raise Failed(f"{path.name} has SHA-256 {actual}, expected {digest}: the download is damaged")
    return path


def fetch(into: Path) -> Path:
    """The directory of the compiler: a toolkit's, or that of the wheels."""
    return toolkit() or fetch_wheels(into)


def fetch_wheels(into: Path) -> Path:
    """`into`, filled with the pinned compiler when it is not yet."""
    stamp = into / "wheels"
    contents = "".join(f"{package} {digest}\n" for package, digest in WHEELS.items())
    if stamp.is_file() and stamp.read_text() == contents:
        return into
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Failed("the compiler's wheels are for Linux on x86-64: install a CUDA toolkit and set CUDA_HOME")
    into.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked aside and renamed, so that an interrupted run leaves nothing half done.
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".nvrtc-") as temporary:
        work = Path(temporary)
        fresh = work / "nvrtc"
        for package, digest in WHEELS.items():
            print(f"downloading {package}", file=sys.stderr)
            unpack(download(package, digest, work), fresh)
        (fresh / stamp.name).write_text(contents)
        if into.exists():
            shutil.rmtree(into)
        fresh.rename(into)
    return into


def unpack(wheel: Path, into: Path) -> None:
    """Takes the headers and the two NVRTC libraries out of a wheel, without its own prefix."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            match = re.fullmatch(r"nvidia/[^/]+/(include/.+[^/]|lib/libnvrtc[^/]*\.so[^/]*)", member)
            if match and ".." not in member and ".alt." not in member:
                path = into / match[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)


class Nvrtc:
    """The compiler, through its C interface."""

    def __init__(self, home: Path) -> None:
        path = library(home, "libnvrtc.so*")
        if path is None:
            raise Failed(f"no libnvrtc.so in {home}: delete the directory and run this again")
        # NVRTC looks for its builtins by name only; loaded before, they are found.
        if builtins := library(home, "libnvrtc-builtins.so*"):
            ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(str(path))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.include = next((d for d in (home / "include", home / "targets/x86_64-linux/include") if d.is_dir()), None)
        if self.include is None:
            raise Failed(f"no headers in {home}: delete the directory and run this again")

    def call(self, name: str, *arguments: object) -> None:
        if status := getattr(self.lib, name)(*arguments):
            raise Failed(f"{name}: {self.lib.nvrtcGetErrorString(status).decode()}")

    def text(self, program: ctypes.c_void_p, what: str) -> str:
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def compile(self, source: Path, arch: str, defines: list[str]) -> str:
        """PTX of one file, with line information; file names in it are relative."""
        program = ctypes.c_void_p()
        options = [f"-arch={arch}", "-lineinfo", "-std=c++17", f"-I{self.include}", f"-I{source.parent}", *(f"-D{d}" for d in defines)]
        text = source.read_bytes()
        self.call("nvrtcCreateProgram", ctypes.byref(program), text, source.name.encode(), 0, None, None)
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        try:
            self.call("nvrtcCompileProgram", program, len(options), array)
        except Failed as error:
            raise Failed(f"{source}: {error}\n{self.text(program, 'ProgramLog')}") from None
        ptx = self.text(program, "PTX")
        self.call("nvrtcDestroyProgram", ctypes.byref(program))
        return re.sub(r'^(\s*\.file\s+\d+\s+)"(?:.*/)?([^/"]+)".*$', r'\1"\2"', ptx, flags=re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="download the compiler where there is none")
    compiling = commands.add_parser("compile", help="compile one file to PTX")
    for command in (fetching, compiling):
        command.add_argument("--into", type=Path, default=DEFAULT, metavar="DIR")
    compiling.add_argument("source", type=Path)
    compiling.add_argument("--arch", required=True, help="e.g. compute_80")
    compiling.add_argument("-o", dest="output", type=Path, required=True)
    compiling.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    try:
        home = fetch(arguments.into)
        if arguments.command == "fetch":
            print(home)
        else:
            arguments.output.write_text(Nvrtc(home).compile(arguments.source, arguments.arch, arguments.defines))
    except (Failed, OSError) as error:
        sys.exit(f"nvrtc.py: {error}")


if __name__ == "__main__":
    main()
