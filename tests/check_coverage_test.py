#!/usr/bin/env python3
"""The check of kernels' coverage finds lines that no run reached, in a .cu file and in its header. Run by ctest as check_coverage."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = """#include <cstdio>
#define __device__
template <typename T>
__device__ void tell(T x) {
  if (x < 0)
    std::puts("negative");
}
"""
KERNEL = """#include "core/kernels/x_cuda.h"
#include <cstdlib>
int main(int, char** arguments) {
  const int x = std::atoi(arguments[1]);
  if (x > 100)
    std::puts("large");
  tell(x);
  tell(x > 300 ? -1.0f : 1.0f);
}
"""
CASES = [  # arguments of the runs, lines of the header and of the kernel file that stay unreached
    ([], None, None),
    (["1"], [6], [6]),
    (["101"], [6], []),
    (["-1"], [], [6]),
    (["-1", "101"], [], []),
    (["301"], [], []),  # the header's line in one of the two instances
]


def main():
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        objects = root / "build/tests/CMakeFiles/checked_kernels.dir/__/core/kernels"
        for folder in (root / "tools", root / "core" / "kernels", objects):
            folder.mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "check_coverage", root / "tools")
        (root / "core/kernels/x_cuda.h").write_text(HEADER, encoding="utf-8")
        (root / "core/kernels/x.cu").write_text(KERNEL, encoding="utf-8")

        def compile_kernel():
            source = root / "core/kernels/x.cu"
            subprocess.run(["g++", "-x", "c++", "--coverage", "-O1", f"-I{root}", "-c", source, "-o", objects / "x.cu.o"],
                           check=True)
            subprocess.run(["g++", "--coverage", objects / "x.cu.o", "-o", root / "program"], check=True)

        def check():
            done = subprocess.run([sys.executable, root / "tools/check_coverage", root / "build"], capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr

        compile_kernel()
        for runs, of_header, of_kernel in CASES:
            for data in objects.glob("*.gcda"):
                data.unlink()
            for argument in runs:
                subprocess.run([root / "program", argument], check=True, stdout=subprocess.DEVNULL)
            code, output = check()
            if of_header is None:
                assert code == 1 and "has no counts" in output, output
                continue
            wanted = [f"core/kernels/x.cu:{line}: never ran" for line in of_kernel] + \
                     [f"core/kernels/x_cuda.h:{line}: never ran" for line in of_header]
            assert code == (1 if wanted else 0) and output.count("never ran") == len(wanted) and all(w in output for w in wanted), \
                f"after {runs}, expected {wanted}, got:\n{output}"
        notes = objects / "x.cu.gcno"
        os.utime(notes, (notes.stat().st_atime, notes.stat().st_mtime + 60))
        code, output = check()
        assert code == 1 and "compiled after the tests ran" in output, output
    print(f"coverage: {len(CASES)} sets of runs, each with the right lines")


if __name__ == "__main__":
    main()
