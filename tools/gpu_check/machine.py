"""What this machine offers for the check, and what it lacks, each lack with its remedy. Called by tools/gpu_check/stages.py."""
import glob
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

CUDA_FOLDERS = ("/usr/local/cuda", "/opt/cuda")


class Lacking(Exception):
    """The machine lacks something that the stage can't do without."""


def output_of(*command, **options):
    """What the command prints, or an empty text if there is no such command or it fails."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60, **options)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def program(name, *folders):
    """The path of a program on PATH or in one of the folders, or None."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))


def version_of(text):
    """The first version number of a text as a tuple: (13, 0)."""
    match = re.search(r"(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def cuda_folders():
    home = [os.environ[v] for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    return [pathlib.Path(f) for f in (*home, *CUDA_FOLDERS)]


def nvcc():
    return program("nvcc", *(f / "bin" for f in cuda_folders()))


def sanitizer():
    folders = [f / sub for f in cuda_folders() for sub in ("bin", "compute-sanitizer")]
    return program("compute-sanitizer", *folders)


def gpu():
    """{"name", "driver", "capability": "9.0", "memory"} of the first GPU, or None."""
    text = output_of(program("nvidia-smi", "/usr/local/nvidia/bin") or "nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader")
    fields = [f.strip() for f in text.splitlines()[0].split(",")] if text.strip() else []
    return dict(zip(("name", "driver", "capability", "memory"), fields)) if len(fields) == 4 else None


def chip_of(capability):
    """What nvcc calls it: 8.6 is 86; from 9.0 on with the letter that lets it use all instructions."""
    major, minor = version_of(capability)
    return f"{major}{minor}" + ("a" if major >= 9 else "")


def compiles(source, *flags):
    """Whether g++ compiles and links a program."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "probe.cpp"
        file.write_text(source)
        return subprocess.run(["g++", *flags, file, "-o", file.with_suffix("")], capture_output=True).returncode == 0


def python_library(pattern):
    """A file below the nvidia folder of some Python's packages here: where pip puts CUDA's libraries."""
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    for python in ("python3", sys.executable):
        for found in sorted(glob.glob(f"{output_of(python, '-c', code).strip()}/nvidia/*/{pattern}")):
            return pathlib.Path(found)
    return None


def cublaslt_arguments():
    """CMake arguments that name cuBLASLt where the toolkit lacks it and a Python package has it."""
    for folder in cuda_folders():
        found = [f for sub in ("lib64", "targets/x86_64-linux/lib") for f in (folder / sub).glob("libcublasLt.so*")]
        if found and any((folder / sub / "cublasLt.h").exists() for sub in ("include", "targets/x86_64-linux/include")):
            return []
    library, header = python_library("lib/libcublasLt.so*"), python_library("include/cublasLt.h")
    if not library or not header:
        raise Lacking("cuBLASLt is missing: neither the CUDA toolkit nor python3's packages hold libcublasLt.so and cublasLt.h")
    return [f"-DCUDA_cublasLt_LIBRARY={library}", f"-DCMAKE_CXX_FLAGS=-isystem {header.parent}",
            f"-DCMAKE_CUDA_FLAGS=-isystem {header.parent}", f"-DCMAKE_BUILD_RPATH={library.parent}"]


def check_tools(backend):
    """Raises Lacking with all that is missing for a build."""
    lacks = []
    if not compiles("#include <concepts>\n#include <span>\nstatic_assert(__cplusplus > 202000); int main() {}", "-std=c++20"):
        lacks.append("g++ 11 or later, with C++20 and its standard library")
    if version_of(output_of("cmake", "--version")) < (3, 25):
        lacks.append("cmake 3.25 or later (PyPI has it too: cmake)")
    if not program("ninja"):
        lacks.append("ninja (PyPI has it too: ninja)")
    if backend == "cuda":
        release = re.search(r"release (\d+)\.(\d+)", output_of(nvcc() or "nvcc", "--version"))
        if not release or int(release[1]) < 13:
            lacks.append("nvcc 13 or later, on PATH or in /usr/local/cuda/bin")
    if lacks:
        raise Lacking("this machine lacks " + "; ".join(lacks))


def has_openmp():
    return compiles("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }", "-fopenmp")


def describe(backend, root):
    """Lines for the head of a result file: what ran where."""
    card = gpu()
    if backend == "simt":
        device = "none: the engine of tools/simt, on the CPU"
    else:
        device = f"{card['name']}, {card['memory']}, compute capability {card['capability']}, driver {card['driver']}" if card else "none"
    cpu = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    release = re.search(r"release [\d.]+", output_of(nvcc() or "nvcc", "--version"))
    commit = output_of("git", "-C", root, "describe", "--always", "--dirty=+", "--exclude=*").strip() or "unknown"
    return [f"commit   {commit}", f"gpu      {device}",
            f"cpu      {cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} threads",
            f"tools    nvcc {release[0] if release else 'absent'}, g++ {output_of('g++', '-dumpfullversion').strip()}, "
            f"cmake {'.'.join(map(str, version_of(output_of('cmake', '--version'))))}, {' '.join(platform.libc_ver())}"]
