#!/usr/bin/env python3
"""Each `ctest -R NAME` in sources and pages names an existing test. Run by ctest as test_hints.

Test names are derived as in tests/CMakeLists.txt: from the paths of the *_test.cpp files, and those registered by hand.
NAME itself stands for any name.
    tests/test_hints_test.py [ROOT]
"""
import pathlib
import re
import sys

SKIPPED = {".git", ".venv", "build", "runs", "data", "goldens"}  # folders: generated, or without hints
ENDINGS = {"", ".h", ".cpp", ".cu", ".py", ".md", ".txt", ".cmake"}
GAP = r"[\s/#]+"  # a hint may continue in the next line of a comment
HINT = re.compile(rf"\bctest(?: --preset \w+)?{GAP}-R{GAP}([\w./|^$]+)")
BY_HAND = re.compile(r"(?:^|\n)\s*(?:minibert_python_test\(|add_test\(NAME )(\w+)")


def registered(root):
    """Names of all tests."""
    tests = root / "tests"
    of_files = {p.relative_to(tests).with_suffix("").as_posix().replace("/", "_") for p in tests.rglob("*_test.cpp")}
    return of_files | set(BY_HAND.findall((tests / "CMakeLists.txt").read_text(encoding="utf-8")))


def hints_of(text):
    """(line, pattern) of each hint."""
    for match in HINT.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1].rstrip(".")


def faults_of(name, text, tests):
    """Hints of a text that match no test."""
    for line, pattern in hints_of(text):
        if pattern != "NAME" and not any(re.search(pattern, test) for test in tests):
            yield f"{name}:{line}: `ctest -R {pattern}` matches no test"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    tests = registered(root)
    for hint in ("ctest -R Tape.", "ctest -R\n// PackedBatch.", "ctest\n/// -R text/tape.", "`ctest --preset cpu -R no_such_test`"):
        assert list(faults_of("planted", hint, tests)), f"the planted {hint!r} was not seen"
    for hint in ("ctest -R autograd_tape.", "ctest -R\n// autograd_tape, and", "`ctest --preset cpu -R check_layers`", "ctest -R NAME"):
        assert list(hints_of(hint)) and not list(faults_of("planted", hint, tests)), f"{hint!r} was refused"
    faults, hints = [], 0
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if SKIPPED & set(name.parts) or path.suffix not in ENDINGS or not path.is_file() or path.samefile(__file__):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        faults += faults_of(name, text, tests)
        hints += len(list(hints_of(text)))
    print("\n".join(faults) if faults else f"hints: {hints} name tests among {len(tests)}")
    return 1 if faults or hints == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
