"""Fills a folder with what the project's build needs of other people's libraries, for a machine that has a compiler but no packages.

Everything in it is source, but for zlib and zstd, which are plain C archives: so it compiles with that machine's own compiler and
standard library, whatever their versions. GoogleTest is compiled from its sources, fmt from its headers (FMT_SOURCE), and oneDNN is left out:
the CPU's GEMM is then the project's own. The packages' CMake files are replaced by those that TARGETS writes.
Called by tools/gpu-check pack.
"""
import os
import pathlib
import shutil
import subprocess

FROM = pathlib.Path("/usr")
HEADERS = ["hwy", "CLI", "toml++", "nlohmann", "spdlog", "fmt", "zlib.h", "zconf.h", "zstd.h", "zstd_errors.h", "zdict.h"]
ARCHIVES = ["libz.a", "libzstd.a"]
SOURCES = "src/googletest/googletest"
LIMIT_MIB = 55
# package: what find_package finds of it, besides its version
TARGETS = {
    "fmt": """
add_library(fmt::fmt INTERFACE IMPORTED)
add_library(packed_fmt STATIC ${pack}/src/fmt.cc)
target_include_directories(packed_fmt SYSTEM PUBLIC ${pack}/include)
target_link_libraries(fmt::fmt INTERFACE packed_fmt)
""",
    "spdlog": """
find_package(fmt REQUIRED)
add_library(spdlog::spdlog_header_only INTERFACE IMPORTED)
target_include_directories(spdlog::spdlog_header_only SYSTEM INTERFACE ${pack}/include)
target_compile_definitions(spdlog::spdlog_header_only INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(spdlog::spdlog_header_only INTERFACE fmt::fmt)
""",
    "nlohmann_json": """
add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE ${pack}/include)
""",
    "CLI11": """
add_library(CLI11::CLI11 INTERFACE IMPORTED)
target_include_directories(CLI11::CLI11 SYSTEM INTERFACE ${pack}/include)
""",
    "GTest": """
find_package(Threads REQUIRED)
add_library(packed_gtest STATIC EXCLUDE_FROM_ALL ${pack}/src/googletest/src/gtest-all.cc)
target_include_directories(packed_gtest SYSTEM PUBLIC ${pack}/src/googletest/include PRIVATE ${pack}/src/googletest)
target_link_libraries(packed_gtest PUBLIC Threads::Threads)
target_compile_options(packed_gtest PRIVATE -w)
add_library(packed_gtest_main STATIC EXCLUDE_FROM_ALL ${pack}/src/googletest/src/gtest_main.cc)
target_link_libraries(packed_gtest_main PUBLIC packed_gtest)
add_library(GTest::gtest ALIAS packed_gtest)
add_library(GTest::gtest_main ALIAS packed_gtest_main)
""",
}
# What fmt's own src/format.cc instantiates (fmt 8 to 10); the package has the headers alone.
FMT_SOURCE = """#include "fmt/format-inl.h"

FMT_BEGIN_NAMESPACE
namespace detail {
template FMT_API auto dragonbox::to_decimal(float) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API locale_ref::locale_ref(const std::locale&);
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto thousands_sep_impl(locale_ref) -> thousands_sep_result<wchar_t>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API auto decimal_point_impl(locale_ref) -> wchar_t;
}  // namespace detail
FMT_END_NAMESPACE
"""
CONFIG = """# Written by tools/gpu-check pack: {name} from the folder above.
if(TARGET {target})
  return()
endif()
get_filename_component(pack ${{CMAKE_CURRENT_LIST_DIR}}/../../.. ABSOLUTE)
{body}"""


class Missing(Exception):
    """Something that has to go into the pack is not installed here."""


def library_folder(source):
    """Where the system keeps its libraries: Debian's folder named after the machine, or lib64."""
    triplet = subprocess.run(["g++", "-print-multiarch"], capture_output=True, text=True).stdout.strip()
    return next(f for f in (source / "lib" / triplet, source / "lib64", source / "lib") if f.is_dir())


def version_file(name, source):
    """The package's own version file."""
    patterns = (f"{name}ConfigVersion.cmake", f"{name.lower()}-config-version.cmake")
    for folder in (library_folder(source) / "cmake", source / "share" / "cmake"):
        for pattern in patterns:
            for found in sorted(folder.glob(f"*/{pattern}")):
                return found
    raise Missing(f"{patterns[0]} is not below {source}")


def copy(source, target):
    if not source.exists():
        raise Missing(f"{source} is not there")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def size_mib(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20


def make(folder, source=FROM):
    """Fills the folder anew, in one step. Errors: Missing. Returns its size in MiB."""
    final, folder = folder, folder.with_name(f"{folder.name}.new-{os.getpid()}")
    try:
        size = fill(folder, source)
        shutil.rmtree(final, ignore_errors=True)
        folder.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return size


def fill(folder, source):
    for name in HEADERS:
        copy(source / "include" / name, folder / "include" / name)
    for name in ARCHIVES:
        copy(library_folder(source) / name, folder / "lib" / name)
    for name in ("src", "include"):
        copy(source / SOURCES / name, folder / "src" / "googletest" / name)
    (folder / "src" / "fmt.cc").write_text(FMT_SOURCE)
    for name, body in TARGETS.items():
        files = folder / "lib" / "cmake" / name
        target = body.split("add_library(")[1].split()[0]
        files.mkdir(parents=True)
        (files / f"{name}Config.cmake").write_text(CONFIG.format(name=name, target=target, body=body.lstrip()))
        copy(version_file(name, source), files / f"{name}ConfigVersion.cmake")
    size = size_mib(folder)
    if size > LIMIT_MIB:
        raise Missing(f"the pack takes {size:.1f} MiB, more than {LIMIT_MIB}: take something out of tools/gpu_check/pack.py")
    return size
