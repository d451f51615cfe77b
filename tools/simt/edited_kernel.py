"""Programs of a build of preset simt with an edited kernel file in them: for tools/mutate and for planted_in_kernels_test.py.

The edited file is compiled as the build compiles it, but with -O1, into an object that is linked before the archive which has the
right one, so that the linker never takes that. Nothing of the tree or of the build is touched. debug_kernel links a file of the tree
in the same way.
"""
import functools
import json
import os
import pathlib
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failed(Exception):
    """A compiler's or the linker's message."""


def _run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise Failed(done.stdout + done.stderr)
    return done.stdout


class Build:
    """`folder`: of preset simt, simt-ci or simt-asan."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        listed = json.loads((self.folder / "compile_commands.json").read_text(encoding="utf-8"))
        self.commands = {os.path.relpath(entry["file"], ROOT): entry["command"] for entry in reversed(listed)}  # the first of each file
        self.has_sanitizers = "-fsanitize=" in self.commands["core/kernels/cast.cu"]

    def compile(self, unit, overlay, to, like=None, options=("-O1",)):
        """Compiles `unit`, a file's name in the tree, taking files that `overlay` has too from there. `like`: whose options;
        `options` come behind them."""
        words = shlex.split(self.commands[like or unit])
        if pathlib.Path(words[0]).name == "ccache":
            del words[0]
        source = overlay / unit
        words[words.index("-o") + 1], words[words.index("-c") + 1] = str(to), str(source if source.exists() else ROOT / unit)
        # Files of the overlay pass for those of the tree, so that the same code is the same object.
        _run(words[:1] + [f"-I{overlay}"] + words[1:] + [*options, f"-fmacro-prefix-map={overlay}={ROOT}"], overlay)

    @functools.cache
    def _link_command(self, test):
        words = shlex.split(_run(["ninja", "-C", self.folder, "-t", "commands", f"bin/{test}"], self.folder).splitlines()[-1])
        return words[words.index("&&") + 1:len(words) - 1 - words[::-1].index("&&")]

    def link(self, test, objects, to, instead_of=()):
        """The test's program with these objects in place of those whose names end so."""
        words = [w for w in self._link_command(test) if not w.endswith(tuple(instead_of) or "\0")]
        words[words.index("-o") + 1] = str(to)
        first = next(i for i, w in enumerate(words) if w.endswith("_test.cpp.o"))
        words[first:first] = [str(o) for o in objects]
        _run(words, self.folder)
