#!/usr/bin/env python3
"""docs/simt.md is true: its program is tests/docs/simt_row_sums.cu, and prints, steps and fails as the page shows.

    simt_page_test.py [BUILD]      BUILD: whose kernel and test the second transcript steps through; without it build/simt

Each ```text block of the page is compared with what happens, addresses and blank lines aside. Without gdb the transcripts are
skipped, with a message. Run by ctest as docs_simt in the preset simt.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("MINIBERT_SOURCE_DIR", pathlib.Path(__file__).resolve().parent.parent.parent))
SOURCE = "tests/docs/simt_row_sums.cu"
RUN = ROOT / "tools" / "simt" / "run"
DEBUG = ROOT / "tools" / "simt" / "debug_kernel"


def block(page, fence):
    found = re.search(rf"^```{fence}\n(.*?)^```", page, re.M | re.S)
    assert found, f"docs/simt.md has no block ```{fence}"
    return found[1]


def run(*command, **environment):
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


def expect(what, found, wanted):
    assert found == wanted, f"docs/simt.md, {what}: found\n{found}\nexpected\n{wanted}"


def expect_transcript(page, fence, program):
    """Gives gdb the commands of a transcript; what it says after each, without its banners, is the page's."""
    transcript = block(page, fence).splitlines()
    commands = [line.removeprefix("(gdb) ") for line in transcript if line.startswith("(gdb) ")]
    arguments = [part for command in commands for part in ("-ex", f"echo (gdb) {command}\\n", "-ex", command)]
    _, output = run("gdb", "-batch", "-nx", "-ex", "set style enabled off", *arguments, program)
    output = re.sub(r"(?<!nan\()0x[0-9a-f]+", "ADDRESS", output).replace(f"{ROOT}/", "")
    banners = ("[Thread debugging", "Using host libthread_db", "warning:")
    said = [line for line in output.splitlines() if line.strip() and not line.startswith(banners)]
    expect(fence, "\n".join(said), "\n".join(transcript))
    return len(commands)


def deadlock_of_half_a_warp(folder):
    """The report for the program whose shuffle only half of the lanes reach."""
    text = (ROOT / SOURCE).read_text(encoding="utf-8")
    shuffle = "    sum += __shfl"
    assert shuffle in text
    faulty = folder / pathlib.Path(SOURCE).name
    faulty.write_text(text.replace(shuffle, "    if (lane_id() < 16) sum += __shfl"), encoding="utf-8")
    code, output = run(RUN, faulty)
    assert code != 0, output
    report = output[: output.index("terminate called")] if "terminate called" in output else output
    return report.replace(str(faulty), SOURCE)


def main():
    page = (ROOT / "docs" / "simt.md").read_text(encoding="utf-8")
    expect("program", block(page, "cpp"), (ROOT / SOURCE).read_text(encoding="utf-8"))
    code, program = run(RUN, "--build", SOURCE)
    assert code == 0, program
    expect("output", run(program.strip())[1], block(page, "text output"))
    with tempfile.TemporaryDirectory() as name:
        expect("deadlock", deadlock_of_half_a_warp(pathlib.Path(name)), block(page, "text deadlock"))
        run(RUN, "--build", SOURCE)  # the program again, not its faulty twin of the same name
    if not shutil.which("gdb"):
        print("docs_simt: gdb is absent, its transcripts were not run: apt-get install gdb")
        return 77
    commands = expect_transcript(page, "text gdb", program.strip())
    preset = pathlib.Path(sys.argv[1]).name if len(sys.argv) > 1 else "simt"
    if preset != "simt-asan":  # whose program has sanitizers; the page has none
        code, program = run(DEBUG, "core/kernels/reduce.cu", MINIBERT_SIMT_PRESET=preset)
        assert code == 0, program
        commands += expect_transcript(page, "text gdb kernel", program.strip())
    print(f"docs/simt.md: program, output, report and {commands} gdb commands are as shown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
