"""Where everything is: what is in the repository, and what `setup.sh` made."""

import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
APPS = HERE / "apps"
OURS = HERE / "ours"

CACHE = pathlib.Path(os.environ.get("ROADCREW_PEERS") or REPOSITORY / "target" / "peers" / "race").resolve()
DATA = CACHE / "data"
TOOLS = CACHE / "tools"
SCRATCH = CACHE / "scratch"
WRK = TOOLS / "usr" / "bin" / "wrk"
WRK_LIBRARIES = TOOLS / "usr" / "lib" / "x86_64-linux-gnu"
OHA = TOOLS / "bin" / "oha"
FLOOR = CACHE / "floor" / "release" / "floor"


def python(peer):
    """The Python of a peer's environment."""
    return str(CACHE / "envs" / peer / "bin" / "python")


def libpython(peer):
    """The folder of the shared library of the Python that a peer's environment was made from."""
    settings = CACHE / "envs" / peer / "pyvenv.cfg"
    if not settings.exists():
        return ""
    lines = (line.partition("=") for line in settings.read_text().splitlines())
    home = next(value.strip() for key, _, value in lines if key.strip() == "home")
    return str(pathlib.Path(home).resolve().parent / "lib")


def onnxruntime():
    """The library that all peers use, for ours to use as well."""
    found = sorted(CACHE.glob("envs/ref/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
    return str(found[-1]) if found else ""
