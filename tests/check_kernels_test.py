#!/usr/bin/env python3
"""The check of kernel files passes on the tree, finds planted breaches, and ignores comments. Run by ctest as check_kernels."""
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHECK = ROOT / "tools" / "check_kernels"
PLANTED = [  # a line of a kernel file, what the message must name
    ("kernel<<<1, 32>>>(x);", "<<<"),
    ("  __shared__ float tile[32];", "MB_SHARED"),
    ("  extern __shared__ float tile[];", "MB_SHARED"),
    ('  asm volatile("bar.sync 0;");', "core/ptx.h"),
    ("#if __CUDA_ARCH__ >= 900", "at run time"),
    ("#include <cub/cub.cuh>", "nvcc alone"),
    ("#include <cooperative_groups.h>", "nvcc alone"),
    ("#include <fmt/format.h>", "a host file"),
    ("#ifdef __CUDACC__", "both compile"),
]
HARMLESS = """// no <<<>>>, no __shared__, no asm
/* #if __CUDA_ARCH__
   __shared__ */
const char* text = "<<<asm>>>";
int shift = 1 << 2;
#include "core/cuda_kernel.h"
"""


def check(root):
    done = subprocess.run([sys.executable, CHECK, root], capture_output=True, text=True)
    return done.returncode, done.stdout


def main():
    code, output = check(ROOT)
    assert code == 0, f"the tree itself fails:\n{output}"
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        (root / "core").mkdir()
        for header in ("cuda_kernel.h", "ptx.h"):
            (root / "core" / header).write_text((ROOT / "core" / header).read_text(encoding="utf-8"), encoding="utf-8")
        kernel = root / "core" / "x.cu"
        kernel.write_text(HARMLESS, encoding="utf-8")
        code, output = check(root)
        assert code == 0, f"harmless text was reported:\n{output}"
        for line, expected in PLANTED:
            kernel.write_text(HARMLESS + line + "\n", encoding="utf-8")
            code, output = check(root)
            assert code == 1 and expected in output and "core/x.cu:7" in output, f"{line} was not caught:\n{output}"
    print(f"kernels: {len(PLANTED)} planted breaches, all caught")


if __name__ == "__main__":
    main()
