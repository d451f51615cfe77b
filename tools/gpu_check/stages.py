"""The stages of tools/gpu-check: which parts each has, and how a part's output is read."""
import json
import math
import os
import pathlib
import re

from gpu_check import machine
from gpu_check.runner import ABSENT, PASSED, Part

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACK = ROOT / "build" / "gpu-check" / "pack"
STAGES = ["build", "conformance", "test", "sanitize", "bench"]
CUDA_TEST = re.compile(r"^(cuda_[a-z_]+|[a-z_]+_cuda)_test$")  # as in tests/CMakeLists.txt
HIDDEN = {"base": 768, "large": 1024}
PEER_DIFFERENCE = 0.02  # of the largest value: 16-bit results of other orders of sums are nearer
SANITIZERS = ["memcheck", "racecheck", "initcheck", "synccheck"]
# Tests that launch each kernel of their chapter with few and small sizes: a sanitizer is up to a hundred times slower.
SANITIZED = {
    "core_kernels_attention_cuda_test": ["MatchesReferenceForRaggedSequences", "MatchesReferenceForMisalignedRows", "EmptyBatchesAreFine"],
    "core_kernels_cast_cuda_test": ["InPlaceWhereTheTypesAgree", "EachPatternWidensAndComesBack"],
    "core_kernels_copy_cuda_test": ["GatherCopiesTheRowsThatAreNamed", "ScatterAddsToTheRowsThatAreNamed"],
    "core_kernels_cross_entropy_cuda_test": ["MisalignedRowsGiveTheBitsOfAlignedOnes", "BackwardMayBeInPlace"],
    "core_kernels_elementwise_cuda_test": ["SumsProductsAndScalingMatchReferences", "AddBiasAddsItToEveryRow",
                                           "DropoutReadsTheDataStepOnTheDevice"],
    "core_kernels_embedding_cuda_test": ["ForwardTakesMisalignedTensors", "BackwardSkipsTailRowsAndPaddedGroups",
                                         "BackwardTakesMisalignedTensors"],
    "core_kernels_gemm_cuda_test": ["RowsThatAreNotAlignedMatchReference", "ProductsOfASmallBertMatchReference", "CublasLtMatchesReference"],
    "core_kernels_layer_norm_cuda_test": ["RowsOffAlignmentMatchReference", "AccumulatesWhereAsked", "InPlaceGivesTheSameBits"],
    "core_kernels_optimizer_cuda_test": ["AWholeStepUnscalesClipsAndUpdates", "MisalignedBuffersGiveTheBitsOfAlignedOnes"],
    "core_kernels_reduce_cuda_test": ["ColumnSumTakesRowsOffAlignment", "SumMatchesReference"],
    "core_kernels_step_cuda_test": ["ASumThatIsNotFiniteSkipsWhereverItStands"],
}

# The ops that run a chapter's kernels, for bench. The other chapters have no op: a step's table has their kernels.
OPS = {
    "elementwise": ["add", "multiply", "scale", "gelu", "tanh", "dropout", "add_bias"],
    "reduce": ["sum"],
    "embedding": ["embedding"],
    "copy": ["gather_rows"],
    "gemm": ["linear", "linear_gelu", "linear_tanh", "linear_add_norm", "feed_forward_add_norm"],
    "layer_norm": ["layer_norm", "add_norm"],
    "attention": ["attention", "qkv_attention"],
    "cross_entropy": ["cross_entropy", "masked_lm_loss", "span_loss"],
}


class Check:
    """One call of tools/gpu-check: what it works on."""

    def __init__(self, backend, build, out, chip=None, only=""):
        self.backend, self.build, self.out, self.chip, self.only = backend, build, out, chip, only

    def parts(self, stage):
        return [p for p in getattr(self, f"{stage}_parts")() if self.only in p.name or p.name == "configure"]

    def part_of(self, stage, name, program, arguments, before=(), **more):
        """A part that runs a program of the build; where that is not built, one that fails, so that the others run."""
        path = self.build / "bin" / program
        if not path.exists():
            message = f"{program} is not built: tools/gpu-check build --backend {self.backend}"
            return Part(name, ["sh", "-c", f"echo '{message}'; exit 1"], judge=lambda code, output: (last_line(output), False))
        # Without the caching of freed memory the sanitizers see the end of each tensor.
        direct = {"MINIBERT_DIRECT_ALLOCATOR": "1"} if stage == "sanitize" else {}
        environment = {"MINIBERT_SOURCE_DIR": str(ROOT), "OMP_WAIT_POLICY": "passive",
                       "MINIBERT_BINARY": str(self.build / "bin" / "minibert"), **direct}
        return Part(name, [*before, path, *arguments], environment=environment, **more)

    def workers(self, stage):
        """How many parts run beside one another. Timings run alone."""
        if stage in ("build", "bench", "conformance"):
            return 1
        cores = len(os.sched_getaffinity(0))
        return cores if self.backend == "simt" else min(4, cores)

    # ---- build -------------------------------------------------------------------------------------
    def configure_arguments(self):
        arguments = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DMINIBERT_CUDA={self.backend}"]
        if PACK.exists():
            arguments += [f"-DCMAKE_PREFIX_PATH={PACK}", "-DMINIBERT_ONEDNN=OFF"]
        if not machine.has_openmp():
            arguments.append("-DMINIBERT_OPENMP=OFF")
        if self.backend == "cuda":
            chip = self.chip
            if not chip:
                card = machine.gpu()
                if not card:
                    raise machine.Lacking("nvidia-smi shows no GPU, so there is no chip to compile for. Name one: --chip 90a")
                chip = machine.chip_of(card["capability"])
            arguments += [f"-DMINIBERT_CUDA_TARGETS={chip}", f"-DCMAKE_CUDA_COMPILER={machine.nvcc()}", *machine.cublaslt_arguments()]
        return arguments

    def build_parts(self):
        ninja = ["cmake", "--build", self.build, "--parallel", len(os.sched_getaffinity(0)), "--target"]
        return [Part("configure", ["cmake", "-S", ROOT, "-B", self.build, *self.configure_arguments()], judge=judge_configure),
                Part("conformance", [*ninja, "conformance"], limit=math.inf, judge=judge_build),
                # A file that does not compile must not keep the others from being tried.
                Part("tests and minibert", [*ninja, "minibert", *cuda_tests(), "--", "-k", "0"], limit=math.inf, judge=judge_build)]

    # ---- conformance -------------------------------------------------------------------------------
    def golden(self):
        """The file of a GPU of this chip, or of any, if there is one."""
        return next(iter(sorted((ROOT / "tests" / "goldens").glob("conformance_sm*.jsonl"))), None)

    def conformance_parts(self):
        golden = ["--golden", self.golden()] if self.golden() else []
        return [self.part_of("conformance", "conformance", "conformance", ["--out", self.out / "conformance.jsonl", *golden],
                             judge=judge_conformance)]

    # ---- test --------------------------------------------------------------------------------------
    def test_parts(self):
        limit = 900 if self.backend == "simt" else 240
        return [self.part_of("test", test, test, ["--gtest_brief=1"], limit=limit, judge=judge_test) for test in cuda_tests()]

    # ---- sanitize ----------------------------------------------------------------------------------
    def sanitize_parts(self):
        parts = []
        for which in SANITIZERS:
            before = [machine.sanitizer(), "--tool", which, "--error-exitcode", 86, "--print-limit", 20]
            runs = [("conformance", ["--out", self.out / f"conformance_{which}.tmp"])]
            runs += [(test, ["--gtest_brief=1", "--gtest_filter=" + ":".join(f"*.{case}" for case in cases)])
                     for test, cases in SANITIZED.items()]
            for program, arguments in runs:
                name = f"{which} {program.removeprefix('core_kernels_').removesuffix('_cuda_test')}"
                parts.append(self.part_of("sanitize", name, program, arguments, before, limit=150, judge=judge_sanitizer))
        return parts

    def can(self, stage):
        """An empty text, or why this stage has nothing to do here."""
        if stage == "sanitize" and self.backend == "simt":
            return "compute-sanitizer needs a GPU; under tools/simt the preset simt-asan stands in for it"
        if stage == "sanitize" and not machine.sanitizer():
            return "there is no compute-sanitizer on PATH or in the CUDA toolkit"
        return ""

    # ---- bench -------------------------------------------------------------------------------------
    def bench_parts(self):
        simt, parts = self.backend == "simt", []
        small = ["--tokens", 16, "--hidden", 16, "--vocab", 32, "--seconds", 0.001]
        shapes = {"products": small} if simt else {f"products {model}": ["--tokens", 16384, "--hidden", hidden, "--seconds", 0.1]
                                                  for model, hidden in HIDDEN.items()}
        for dtype in ("bf16", "f16", "tf32", "f32"):
            parts += [self.part_of("bench", f"{name} {dtype}", "minibert",
                                   ["bench", "gemm", "--device", "cuda", "--dtype", dtype, "--json", *shape], judge=judge_products)
                      for name, shape in shapes.items()]
        size = ["--small", "--seconds", 0.001] if simt else ["--seconds", 0.2]
        for precision in ("bf16",) if simt else ("bf16", "tf32"):
            parts += [self.part_of("bench", f"ops {chapter} {precision}", "minibert",
                                   ["bench", *ops, "--device", "cuda", "--precision", precision, "--json", *size], judge=judge_ops)
                      for chapter, ops in OPS.items()]
        steps = [("tiny", 16, 1, "bf16")] if simt else [(model, seq, 16384 // seq, precision) for precision in ("bf16", "tf32")
                                                       for model in HIDDEN for seq in (128, 512)]
        for model, seq, batch, precision in steps:
            name = f"step {model} {batch} x {seq} {precision}"
            shape = ["--batch", batch, "--seq", seq, "--precision", precision]
            shape += ["--layers", 1, "--vocab", 100, "--steps", 1, "--warmup", 1] if simt else ["--steps", 20, "--warmup", 5]
            parts.append(self.part_of("bench", name, "minibert",
                                      ["bench", "step", "--json", "--device", "cuda", "--model", f"bert-{model}", *shape],
                                      judge=judge_step))
            if precision == "bf16":
                peer = ["python3", ROOT / "tools" / "bench" / "torch_step.py", "--device", "cpu" if simt else "cuda", "--model", model]
                parts += [Part(f"{name} torch {mode}", [*peer, *shape, "--mode", mode], limit=240, judge=judge_peer)
                          for mode in (("eager",) if simt else ("eager", "compile"))]
        # The peers, which compile for long, come last.
        return sorted(parts, key=lambda p: ("torch" in p.name) + ("compile" in p.name))


def cuda_tests():
    """Executables of the tests that the presets cuda and simt share."""
    tests = ROOT / "tests"
    found = sorted(p for p in tests.rglob("*_test.cpp") if CUDA_TEST.match(p.stem) and "tools/simt" not in p.as_posix())
    return ["_".join(p.relative_to(tests).with_suffix("").parts) for p in found]


# ---- What a part's output says -------------------------------------------------------------------
def last_line(output, pattern=""):
    return next((line.strip() for line in reversed(output.splitlines()) if pattern in line and line.strip()), "")


def judge_configure(code, output):
    if code == 0:
        return re.sub(r"^.*uses: ", "", last_line(output, "uses:")), True
    return last_line(output, "missing") or last_line(output, "Error") or last_line(output), False


def judge_build(code, output):
    """Counts kernels, and those of which ptxas spilled registers."""
    kernels = len(re.findall(r"Compiling entry function", output))
    spills = len([1 for stores, loads in re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", output) if stores != "0" or loads != "0"])
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", output)]
    note = f"{kernels} kernels, {spills} with spills, at most {max(registers)} registers" if registers else ""
    if code != 0:
        return last_line(output, "error") or last_line(output), False
    return note, True


def judge_conformance(code, output):
    return last_line(output, "conformance:") or last_line(output), code == 0


def judge_test(code, output):
    passed = re.search(r"\[  PASSED  \] (\d+) test", output)
    skipped = re.search(r"\[  SKIPPED \] (\d+) test", output)
    failed = re.findall(r"^\[  FAILED  \] (\S+)", output, re.M)
    if skipped:
        return f"{skipped[1]} skipped: {last_line(output, 'needs') or last_line(output, 'cuda')}", False
    if code != 0:
        return "failed: " + ", ".join(dict.fromkeys(failed)) if failed else f"exit code {code}: {last_line(output)}", False
    return f"{passed[1]} tests" if passed else last_line(output), bool(passed)


def judge_sanitizer(code, output):
    summary = last_line(output, "SUMMARY:").replace("=", "").strip()
    if code == 0 and "[  SKIPPED ]" in output:
        return "skipped", False
    return summary or f"exit code {code}: {last_line(output)}", code == 0 and bool(summary)


def json_lines(output):
    lines = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass
    return lines


def judge_products(code, output):
    rows = [r for r in json_lines(output) if r.get("library_gflops_per_s")]
    if code != 0 or not json_lines(output):
        return last_line(output), False
    ratios = sorted(r["builtin_gflops_per_s"] / r["library_gflops_per_s"] for r in rows)
    return f"ours / cuBLASLt: median {ratios[len(ratios) // 2]:.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else "ours alone", True


def judge_ops(code, output):
    """The shares of what the chip's measured limits allow, and our time over cuDNN's where it is there."""
    rows = json_lines(output)
    if code != 0 or not rows:
        return last_line(output), False
    shares = sorted(r["share_of_limit"] for r in rows if r["by"] == "minibert" and r["share_of_limit"] > 0)  # add's backward is free
    note = f"{100 * shares[0]:.0f} to {100 * shares[-1]:.0f} % of the limits"
    ours = {(r["op"], r["pass"], r["sizes"]): r["seconds"]["median"] for r in rows if r["by"] == "minibert"}
    for row in (r for r in rows if r["by"] != "minibert"):
        if not row["difference"] <= PEER_DIFFERENCE:
            return f"{row['op']} {row['pass']}: {row['by']} differs from ours by {row['difference']:.1e} of the largest value", False
        ratio = ours[row["op"], row["pass"], row["sizes"]] / row["seconds"]["median"]
        note += f"; {row['op']} {row['pass']}: ours / {row['by']} {ratio:.2f}"
    return note, True


def judge_step(code, output):
    rows = json_lines(output)
    if code != 0 or not rows:
        return last_line(output), False
    row = rows[-1]
    return f"{1e3 * row['step_s']['median']:.1f} ms, {row['real_tokens_per_s']:.0f} tokens/s", True


def judge_peer(code, output):
    """Without PyTorch there is nothing to compare with, which is no failure."""
    if code == 77:
        return last_line(output), True
    return judge_step(code, output)


# ---- A stage's end ---------------------------------------------------------------------------------
def run_stage(check, stage, runner):
    """True if all of it passed. Prints the table."""
    why_not = check.can(stage)
    if why_not:
        runner.memory.put(stage, "all", status=ABSENT, seconds=0, note=why_not)
        parts, passed = [Part("all", [])], True
    else:
        if stage == "build":
            machine.check_tools(check.backend)
            if not (check.build / "build.ninja").exists():
                runner.memory.forget(stage)
        parts = check.parts(stage)
        # Only what is configured can be built.
        first = parts[:1] if stage == "build" else []
        passed = runner.run(stage, first) and runner.run(stage, parts[len(first):], check.workers(stage))
    runner.stream(f"\n== {stage}: {'passed' if passed else 'NOT passed'}")
    runner.stream("\n".join(runner.table(stage, [p.name for p in parts])) + "\n")
    return passed


def write_results(check, runner, argv):
    """report.txt: the tables of all stages so far. bench.jsonl: what bench printed. failures.txt: the ends of logs."""
    check.out.mkdir(parents=True, exist_ok=True)
    lines = [f"$ tools/gpu-check {' '.join(argv)}", *machine.describe(check.backend, ROOT)]
    parts = [name.split("/", 1) for name in runner.memory.data["parts"]]
    for stage in STAGES:
        names = [part for of, part in parts if of == stage]
        if names:
            lines += ["", f"== {stage}", *runner.table(stage, names)]
    (check.out / "report.txt").write_text("\n".join(lines) + "\n")
    logs = sorted(runner.logs.glob("bench-*.log"), key=lambda log: log.stat().st_mtime)
    rows = [row for log in logs for row in json_lines(log.read_text(errors="replace"))]
    (check.out / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = []
    for stage, part in parts:
        log = runner.log(stage, part)
        status = runner.memory.get(stage, part)["status"]
        if status not in (PASSED, ABSENT) and log.exists():
            text += [f"==== {stage}/{part}: {status}", *log.read_text(errors="replace").splitlines()[-200:]]
    (check.out / "failures.txt").write_text("".join(line + "\n" for line in text))
    for leftover in check.out.glob("*.tmp"):
        leftover.unlink()
