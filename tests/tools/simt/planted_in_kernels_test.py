#!/usr/bin/env python3
"""Plants faults in our own kernels, one line each, and shows that the engine of tools/simt finds them. Run by ctest as simt_planted.

    planted_in_kernels_test.py BUILD [NAME...]      BUILD: of preset simt or simt-asan, its kernels' tests built

For each row of BUGS: the edited file is compiled, linked in place of the right one into the chapter's test, and run in each setting of
the engine that the row names. `seen` is a pattern of what must be printed where the fault is found; `unseen` settings must pass, which
shows that the other setting is what finds it. planted_bugs_test.cpp has the same faults in kernels made for them.
"""
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools" / "simt"))
from edited_kernel import Build, Failed  # noqa: E402

KERNELS = "core/kernels/"

IN_ORDER = {}  # lowest thread first, cp.async late: the engine's defaults
EARLY = {"SIMT_ASYNC": "early"}
SEEDS = [{"SIMT_SEED": str(seed)} for seed in (1, 2, 3)]
SHORT = {"SIMT_STEP_LIMIT": "100000"}
STRICT = {"SIMT_STRICT": "1"}


@dataclasses.dataclass
class Bug:
    name: str
    file: str  # that is edited, under core/kernels/ or with its folder
    old: str  # occurs once
    new: str
    test: str  # of a chapter, and which of its cases
    seen: list  # [(environment, pattern of the output)]
    unseen: list = dataclasses.field(default_factory=list)  # environments
    unit: str = ""  # the .cu file that is compiled, where the edited file is a header
    sanitizers: bool = False  # found by them alone, in preset simt-asan


WRONG = "Failure"  # a comparison with the reference
GROUPS = "embedding:*BackwardHasTheBitsOfThePlainLoopForGroupsOfAnyLength"
ROWS = "gemm:*BitsOfARowDoNotDependOnTheOtherRows"
GATHER = "copy:*GatherCopiesTheRowsThatAreNamed"

BUGS = [
    # Copies and barriers
    Bug("no wait for the copies of a tile",
        "embedding.cu", "cp_async_wait<1>();  // this tile is here", "// this tile is here",
        GROUPS, seen=[(IN_ORDER, WRONG)], unseen=[EARLY]),
    Bug("a wait that leaves a group too many",
        "embedding.cu", "cp_async_wait<1>()", "cp_async_wait<2>()",
        GROUPS, seen=[(IN_ORDER, WRONG)], unseen=[EARLY]),
    Bug("no wait in the loop of the pipeline",
        "gemm_mma_cuda.h", "      cp_async_wait<Tile::kStages - 2>();\n      __syncthreads();  // the next slot",
        "      __syncthreads();  // the next slot",
        ROWS, seen=[(IN_ORDER, WRONG)], unseen=[EARLY], unit="gemm_mma_bf16.cu"),
    Bug("no barrier after a tile was read",
        "embedding.cu", "__syncthreads();  // this half is free", "// this half is free",
        GROUPS, seen=[(EARLY, WRONG)], unseen=[IN_ORDER]),
    Bug("no barrier before the next tile is written",
        "gemm_rungs.cu", "__syncthreads();  // the tiles are read", "// the tiles are read",
        "gemm:*RungsMatchReference", seen=[(seed, WRONG) for seed in SEEDS]),
    Bug("no barrier before the warps' sums are read",
        "reduce.cu", "  __syncthreads();\n  for (int place", "  for (int place",
        "reduce:*ColumnSumOfManyRows", seen=[(IN_ORDER, "nan")]),
    # Threads and lanes that part
    Bug("a barrier that some threads pass by",
        "embedding.cu", "__syncthreads();  // this half", "if (adds) __syncthreads();  // this half",
        GROUPS, seen=[(IN_ORDER, "divergent barrier")]),
    Bug("threads leave before a barrier of the block",
        "cross_entropy.cu", "  const int first_pack =", "  if (thread * N >= f.classes) return;\n  const int first_pack =",
        "cross_entropy:*ForwardMatchesReference", seen=[(IN_ORDER, "deadlock")]),
    Bug("a shuffle for half of the lanes that call it",
        "core/cuda_kernel.h", "  x += __shfl_xor_sync(kFullMask, x, distance);", "  x += __shfl_xor_sync(0xFFFFu, x, distance);",
        "reduce:*SumMatchesReference", seen=[(IN_ORDER, "mask")], unit="reduce.cu"),
    Bug("a loop without end",
        "embedding.cu", "tile < end; tile += kTile,", "tile < end;",
        GROUPS, seen=[(SHORT, "step limit|endless|steps")]),
    # Shared memory
    Bug("shared memory of what is beyond the matrix is not set",
        "gemm_rungs.cu", "      s_a[m][k_of_a] = in_a ? p.at_a(m0 + m, k0 + k_of_a) : 0.0f;",
        "      if (in_a) s_a[m][k_of_a] = p.at_a(m0 + m, k0 + k_of_a);",
        "gemm:*RungsMatchReference", seen=[(IN_ORDER, "nan")]),
    Bug("who writes a slot swizzles otherwise than who reads it",
        "gemm_mma_cuda.h", "to_(Tile::place(line_, chunk_))", "to_(line_ * Tile::kLineBytes + chunk_ * 16)",
        ROWS, seen=[(IN_ORDER, WRONG)], unit="gemm_mma_bf16.cu"),
    Bug("less dynamic shared memory than the kernel uses",
        "gemm_mma_cuda.h", "Tile::kSharedBytes, stream", "Tile::kSharedBytes / 2, stream",
        ROWS, seen=[(IN_ORDER, "past the end|shared")], unit="gemm_mma_bf16.cu"),
    Bug("a sum over one row too many of shared memory",
        "reduce.cu", "r < kStage2Rows", "r <= kStage2Rows",
        "reduce:*ColumnSumOfManyRows", seen=[(IN_ORDER, "use-after-poison|overflow|out of bounds")], sanitizers=True),
    # Global memory
    Bug("a thread beyond the last element",
        "cast.cu", "if (i >= n) return;", "if (i > n) return;",
        "cast:*MatchesTheReferenceAndStaysInside", seen=[(IN_ORDER, "intact")]),
    Bug("a gather that does not ask whether there is a row",
        "copy.cu", "if (from >= 0) word = ", "word = ",
        GATHER, seen=[(IN_ORDER, WRONG)]),
    Bug("a row number without its sign",
        "copy.cu", "    const int64_t from = row[p];\n    Word word{};", "    const uint32_t from = row[p];\n    Word word{};",
        GATHER, seen=[(IN_ORDER, "signal 11")]),
    Bug("the host reads the device's memory",
        "copy.cu", "  const int64_t P = args.dy.dim(0), H",
        "  if (args.dx.bytes() > 0 && *static_cast<char*>(args.dx.raw()) == 1) return;\n  const int64_t P = args.dy.dim(0), H",
        "copy:*ScatterIntoZerosGivesNoNegativeZero", seen=[(STRICT, "signal 11")], unseen=[IN_ORDER]),
    Bug("copies of 16 bytes from rows that are not aligned",
        "embedding.cu", "const bool copies = packs(b.dy, row_bytes);", "const bool copies = true;",
        "embedding:*BackwardTakesMisalignedTensors", seen=[(IN_ORDER, "align")]),
    Bug("packs from rows that are not aligned",
        "reduce.cu", "rung == 2 || !aligned_to(16, x) || H % N != 0", "rung == 2",
        "reduce:*ColumnSumTakesRowsOffAlignment", seen=[(IN_ORDER, "misaligned: 16 bytes are moved together")]),
]


def run(words, environment=None, seconds=120):
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=seconds, env=environment)
        ended = f"killed by signal {-done.returncode}\n" if done.returncode < 0 else ""
        return done.returncode, ended + done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        return 1, f"took more than {seconds} s"


def check(bug, build, schedule, folder):
    """What is wrong with a row of the table, or nothing."""
    name = bug.file if "/" in bug.file else KERNELS + bug.file
    unit = KERNELS + (bug.unit or bug.file)
    text = (ROOT / name).read_text(encoding="utf-8")
    if text.count(bug.old) != 1:
        return f"{name} has the edited text {text.count(bug.old)} times, expected once"
    edited = folder / name
    edited.parent.mkdir(parents=True)
    edited.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    test, cases = bug.test.split(":")
    try:
        build.compile(unit, folder, folder / "kernel.o")
        build.link(f"core_kernels_{test}_cuda_test", [folder / "kernel.o", schedule], folder / "program",
                   instead_of=["schedules_simt.cpp.o"])
    except Failed as error:
        return f"the edit does not compile:\n{error}"
    program = [str(folder / "program"), f"--gtest_filter={cases}", "--gtest_brief=1"]
    wrong = []
    for setting, pattern in [(s, p) for s, p in bug.seen] + [(s, None) for s in bug.unseen]:
        environment = os.environ | setting | {"GCOV_PREFIX": str(folder), "MINIBERT_SOURCE_DIR": str(ROOT)}
        code, output = run(program, environment)
        if pattern is None and code != 0:
            wrong.append(f"was found in {setting or 'order'}, which should miss it:\n{output[:2000]}")
        elif pattern is not None and (code == 0 or not re.search(pattern, output)):
            wrong.append(f"in {setting or 'order'}, expected /{pattern}/, got exit code {code} and:\n{output[:2000]}")
    return "\n".join(wrong)


def main():
    build, only = Build(sys.argv[1]), sys.argv[2:]
    bugs = [b for b in BUGS if (not only or b.name in only) and b.sanitizers == build.has_sanitizers]
    failures = 0
    with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        folder = pathlib.Path(name)
        schedule = folder / "one_schedule.o"
        build.compile("tests/tools/simt/one_schedule.cpp", folder, schedule, like="tests/schedules_simt.cpp")

        def timed(bug):
            start = time.monotonic()
            return check(bug, build, schedule, folder / bug.name.replace(" ", "_")), time.monotonic() - start

        for bug, (wrong, seconds) in zip(bugs, workers.map(timed, bugs)):
            failures += bool(wrong)
            outcome = "FAILED" if wrong else "found"
            print(f"{outcome}: {bug.name} ({bug.file}, {seconds:.0f} s)", wrong, sep="\n" if wrong else "", flush=True)
    print(f"planted: {len(bugs) - failures} of {len(bugs)} faults found as the table says")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
