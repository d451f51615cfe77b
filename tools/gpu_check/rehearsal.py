"""Runs tools/gpu-check as a bare machine would: in a root without network, whose /usr lacks the files of our Debian packages.

A mount namespace lays an empty writable layer over /usr and removes the files there; nothing outside changes. Compilers and the CUDA
toolkit stay. Needs root, or a kernel that lets users make namespaces and overlays. Called by tools/gpu-check rehearse.
"""
import os
import pathlib
import shlex
import subprocess
import sys

from gpu_check import stages

# What tools/install-dependencies installs, but for the tools, and the libraries that come with it. zlib1g and libzstd1 stay: the
# compiler itself needs them.
PACKAGES = ["libdnnl-dev", "libdnnl2", "libhwy-dev", "libhwy1", "libcli11-dev", "libtomlplusplus-dev", "libtomlplusplus3",
            "nlohmann-json3-dev", "libspdlog-dev", "libspdlog1.10", "libfmt-dev", "libfmt9", "libgtest-dev", "googletest", "zlib1g-dev",
            "libzstd-dev"]
HIDE = """
set -e
mount -t tmpfs rehearsal {scratch}
mkdir {scratch}/upper {scratch}/work
mount -t overlay overlay -o lowerdir=/usr,upperdir={scratch}/upper,workdir={scratch}/work /usr
xargs -0 rm -f <{list}
ldconfig 2>/dev/null || true
for header in hwy/highway.h CLI/CLI.hpp fmt/format.h gtest/gtest.h zlib.h; do
  ! test -e /usr/include/$header || {{ echo "error: /usr/include/$header is still to be seen" >&2; exit 2; }}
done
cd {root}
"""
UNSHARE = ["unshare", "--mount", "--net"]


def files_to_hide():
    """Files of the packages below /usr, as this machine's dpkg names them."""
    listed = subprocess.run(["dpkg", "-L", *PACKAGES], capture_output=True, text=True).stdout.splitlines()
    paths = {pathlib.Path(line) for line in listed if line.startswith(("/usr/include/", "/usr/lib/", "/usr/share/cmake/", "/usr/src/"))}
    paths |= {pathlib.Path("/usr") / str(p)[1:] for p in map(pathlib.Path, listed) if str(p).startswith("/lib/")}
    return sorted(str(p) for p in paths if p.is_symlink() or p.is_file())


def unshare():
    """The command that makes the namespaces, or None where the system forbids it."""
    for command in (UNSHARE, [*UNSHARE, "--map-root-user"]):
        probe = "mount -t tmpfs x /mnt && mkdir /mnt/u /mnt/w && mount -t overlay x -o lowerdir=/usr,upperdir=/mnt/u,workdir=/mnt/w /usr"
        if subprocess.run([*command, "sh", "-c", probe], capture_output=True).returncode == 0:
            return command
    return None


def hidden(folder, commands):
    """Runs the commands in such a root; their exit code, or 77 where it can't be made."""
    command = unshare()
    if not command:
        print("rehearse: skipped: this system lets neither root nor users mount in a namespace of their own")
        return 77
    names = files_to_hide()
    if not names:
        print("rehearse: skipped: dpkg knows none of the packages that are to be hidden")
        return 77
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    listing = folder / "hidden-files"
    listing.write_text("\0".join(names))
    script = HIDE.format(scratch=shlex.quote(str(scratch)), list=shlex.quote(str(listing)), root=shlex.quote(str(stages.ROOT)))
    script += "\n".join(" ".join(shlex.quote(str(word)) for word in c) for c in commands) + "\n"
    print(f"rehearse: {len(names)} files hidden, no network", flush=True)
    return subprocess.run([*command, "bash", "-c", script], env=dict(os.environ, CCACHE_NOHASHDIR="1")).returncode


def run(make_pack, arguments):
    folder = stages.ROOT / "build" / "gpu-check" / "rehearsal"
    make_pack()
    gpu_check = [sys.executable, stages.ROOT / "tools" / "gpu-check"]
    where = ["--backend", arguments.backend, "--build", folder / arguments.backend, "--out", folder / f"results-{arguments.backend}"]
    limits = ["--minutes", arguments.minutes, *(["--fresh"] if arguments.fresh else []), *(["--only", arguments.only] if arguments.only else []),
              *(["--chip", arguments.chip] if arguments.chip else [])]
    # Without a GPU, what nvcc compiles can't run: the CUDA backend is rehearsed as far as its build.
    stage = "build" if arguments.backend == "cuda" else "all"
    return hidden(folder, [[*gpu_check, stage, *where, *limits]])
