#!/usr/bin/env python3
"""Each message that advises a command or an edit has a test that follows the advice and succeeds. Run by ctest as advice.

tests/tools/advice/ has the rows: a part of the message as it stands in the sources, and a function that provokes it and does what it
says. A new message without a row, or an entry of elsewhere.py, fails here; so does a row without its message.
    tests/tools/advice_test.py [--table] [PART OF A MESSAGE]
--table prints all rows: check, advice, what the test did.
"""
import pathlib
import sys
import tempfile
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from advice import elsewhere, file_rows, folder_rows, settings_rows, shard_rows, world  # noqa: E402,F401
from advice.messages import all_messages, all_texts, messages_of  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


def advice_in(said):
    """The last sentences of a message, for the table."""
    sentences = said.strip().splitlines()[0].replace("`", "").split(". ")
    return ". ".join(sentences[-2:] if len(sentences) > 2 else sentences[-1:])[:160]


def uncovered(messages):
    """Faults of the lists: messages without a row, rows without a message."""
    fragments = [*world.ROWS, *elsewhere.TESTED_BY, *elsewhere.NOT_HERE]
    for message in messages:
        if not any(fragment in message.text for fragment in fragments):
            yield f"{message.place()}: no row carries out the advice of: {message.text[:200]}"
    texts = all_texts(ROOT)  # a message may be put together elsewhere than where it is thrown
    for fragment in fragments:
        if not any(fragment in text for text in texts):
            yield f"tests/tools/advice: no message has the words: {fragment}"
    for fragment, (file, part) in elsewhere.TESTED_BY.items():
        path = ROOT / file
        if not path.exists() or part not in path.read_text(encoding="utf-8"):
            yield f"tests/tools/advice/elsewhere.py: {file} has no test with \"{part}\" ({fragment})"


def check_the_scanner():
    planted = 'MB_CHECK(a,\n "x: is {}, expected {}. "\n "Use --b.", f("(", 1));\nfail<DataError>("y: {}", kFix);\nMB_CHECK(b, "no advice");\n' \
              'constexpr const char* kFix =\n "Rename it.";\n'
    found = [(m.line, m.text) for m in messages_of("planted.cpp", planted)]
    assert found == [(1, "x: is {}, expected {}. Use --b.("), (4, "y: {} Rename it.")], found


def carry_out(fragment, shared):
    shared.fragment, shared.refusals, shared.done = fragment, 0, []
    world.ROWS[fragment](shared)
    assert shared.refusals and shared.done, "the row provoked no message, or did nothing about it"
    return advice_in(shared.said), shared.done


def main():
    arguments = [a for a in sys.argv[1:] if a != "--table"]
    check_the_scanner()
    messages = all_messages(ROOT)
    faults = [] if arguments else list(uncovered(messages))
    table = []
    with tempfile.TemporaryDirectory(prefix="minibert-advice-") as folder:
        shared = world.World(folder)
        for fragment in world.ROWS:
            if arguments and arguments[0] not in fragment:
                continue
            places = ", ".join(m.place() for m in messages if fragment in m.text) or "(none)"
            try:
                table.append((places, *carry_out(fragment, shared)))
            except Exception as error:  # noqa: BLE001: each row is a test of its own
                where = traceback.extract_tb(error.__traceback__)[-2 if len(traceback.extract_tb(error.__traceback__)) > 2 else -1]
                faults.append(f"{places}: {where.name}: {error}")
    if "--table" in sys.argv or arguments:
        for places, advice, done in table:
            print(f"{places}\n    advice: {advice.replace(folder + '/', '')}\n    done:   " + "\n            ".join(done))
        for fragment, (file, part) in elsewhere.TESTED_BY.items():
            print(f"(by {file}: {part})\n    advice: {fragment}")
        for fragment, reason in elsewhere.NOT_HERE.items():
            print(f"(not carried out: {reason})\n    advice: {fragment}")
    print("\n".join(faults))
    print(f"advice: {len(messages)} messages, {len(table)} rows carried out, {len(elsewhere.TESTED_BY)} by other tests, "
          f"{len(elsewhere.NOT_HERE)} not carried out, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
