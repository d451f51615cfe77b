#!/usr/bin/env python3
"""The installed files can be used: installs the build, then builds and runs a project that calls find_package(minibert)."""
import os
import pathlib
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(sys.argv[1])
PROGRAM = """
#include <cstdio>
#include "autograd/ops.h"
int main() {
  using namespace minibert;
  const float values[] = {1, 2, 3};
  const Variable x = Variable::leaf(Tensor::from<float>(values, {3}));
  sum(multiply(x, x)).backward();
  std::printf("%g\\n", x.grad().data<float>()[2]);
}
"""
LISTS = """
cmake_minimum_required(VERSION 3.25)
project(user CXX)
set(CMAKE_CXX_STANDARD 20)
find_package(minibert 0.1 REQUIRED)
add_executable(user user.cpp)
target_link_libraries(user PRIVATE minibert::autograd)
"""


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, **options).stdout


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run("cmake", "--install", BUILD, "--prefix", folder / "prefix")
        (folder / "user.cpp").write_text(PROGRAM)
        (folder / "CMakeLists.txt").write_text(LISTS)
        run("cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={folder / 'prefix'}", *sys.argv[2:])
        run("cmake", "--build", folder / "build")
        output = run(folder / "build" / "user")
        assert output == "6\n", f"d(x^2)/dx at 3 is printed as {output!r}, expected 6"
        version = run(folder / "prefix" / "bin" / "minibert", "--version")
        assert version.startswith("minibert "), version


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd} failed:\n{error.stdout}\n{error.stderr}")
