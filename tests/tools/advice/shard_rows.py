"""Advice about shards that are damaged or do not belong together: nearly always, to build them again."""
import itertools
import json
import subprocess
import zlib

from advice.world import BINARY, row

numbers = itertools.count()


def rebuilt_row(fragment, spoil, verb=("data", "inspect")):
    """Shards are spoilt, refused by `verb`, built again, and accepted."""
    @row(fragment)
    def carry_out(w):
        folder = w.folder / f"spoilt-{next(numbers)}"
        w.need(*w.build("--sequence-length", 24, output=folder.name))
        spoil(folder)
        command = [*verb, folder]
        w.refused(*command, code=3)
        assert "minibert data build" in w.said
        anew = f"{folder.name}-anew"
        w.works(*w.build("--sequence-length", 24, output=anew))
        w.works(*verb, w.folder / anew)


def damage(path, at, change=1):
    content = bytearray(path.read_bytes())
    content[at] ^= change
    path.write_bytes(bytes(content))


def shard_of(folder):
    return next(path for path in sorted(folder.iterdir()) if path.read_bytes()[:7] == b"MBSHARD")


def manifest(edit):
    """Spoils manifest.json by `edit`, a function of what it holds."""
    def spoil(folder):
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))
    return spoil


def setting(path, value):
    def edit(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value
    return manifest(edit)


def unigrams(edit):
    """Spoils unigram.bin, with a checksum that is right again."""
    def spoil(folder):
        path = folder / "unigram.bin"
        content = bytearray(path.read_bytes()[:-4])
        edit(content)
        path.write_bytes(bytes(content) + zlib.crc32(bytes(content)).to_bytes(4, "little"))
    return spoil


def version_2(content):
    content[8] = 2


rebuilt_row("{}: cannot be opened ({}). Build the data again", lambda folder: shard_of(folder).unlink())
rebuilt_row("{}: cannot be mapped into memory", lambda folder: shard_of(folder).write_bytes(b""))
rebuilt_row("{}: {}. The file is damaged: copy it again, or build it again", lambda folder: damage(shard_of(folder), 20))
rebuilt_row("{}: does not start with \"MBSHARD\"", lambda folder: damage(shard_of(folder), 0))
rebuilt_row("{}: is missing, expected in every folder of shards", lambda folder: (folder / "manifest.json").unlink())
rebuilt_row("{}: is not the manifest of a folder of shards", setting(["format"], "another"))
rebuilt_row("{}: format version is {}, expected {}. {}", setting(["format_version"], 99))
rebuilt_row("{}: is damaged ({}), expected the JSON that data build wrote", lambda folder: (folder / "manifest.json").write_text("{"))
rebuilt_row("{}: is damaged ({}). {}", setting(["settings", "sequence_length"], 0.5))
rebuilt_row("{}: is damaged or newer (settings, {})", setting(["settings", "format"], "parchment"))
rebuilt_row("{}: is damaged (a checksum is not a number: {})", setting(["shards", 0, "crc32"], "none"))
rebuilt_row("{}: its {} bytes are not a table of counts", lambda folder: (folder / "unigram.bin").write_bytes(b"short"))
rebuilt_row("{}: checksum is {:08x}, expected {:08x}: the file is damaged", lambda folder: damage(folder / "unigram.bin", 20))
rebuilt_row("{}: version {} with {} entries, expected version 1 with {}", unigrams(version_2))
rebuilt_row("{}: holds {} examples in {} bytes, expected {} in {} (manifest.json)", setting(["shards", 0, "examples"], 3))
rebuilt_row("{}: was built with a vocabulary of {} entries, expected {} (manifest.json)", setting(["vocabulary", "size"], 36))
rebuilt_row("{}: has sequence length {}, masks {}, NSP {}, expected {}, {}, {} (manifest.json)", setting(["settings", "sequence_length"], 32))
rebuilt_row("{}: identity is {:08x}, expected {:08x} (manifest.json)", setting(["shards", 0, "identity"], "00000001"))
rebuilt_row("{}: has {} entries, expected {} (manifest.json)",
            lambda folder: (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text() + "w99\n"))
rebuilt_row("{}: holds no examples, expected at least one", setting(["shards"], []))
rebuilt_row("{}: checksum is {:08x}, expected {:08x} (manifest.json)", setting(["shards", 0, "crc32"], "00000001"))
rebuilt_row("{}: records hold {} examples with {} tokens, expected {} with {} (manifest.json)", setting(["counts", "example_tokens"], 1))


@row("--unigram-from: {} was built with another vocabulary")
def counts_of_another_vocabulary(w):
    other = w.file("other-words.txt", w.vocab.read_text().replace("w3\nw4\n", "w4\nw3\n"))
    command = w.build("--unigram-from", w.data, "--dry-run", vocab=other)
    w.refused(*command)
    w.works(*w.build("--unigram-from", w.data, "--dry-run", vocab=w.in_message(r"Use --vocab (\S+)\.")))


@row("{}: exists, expected nothing or the remains of a killed data build")
def something_in_the_way(w):
    w.file("way.partial/diary.txt", "")
    w.refused(*w.build(output="way"))
    (w.folder / "way.partial").rename(w.folder / "moved")
    w.works(*w.build(output="way"))


@row("{}: is being written by another data build, expected only one")
def two_builds_at_once(w):
    command = w.build(output="at-once")
    first = subprocess.Popen([BINARY, *map(str, [*command[:-1], "-"])], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    try:
        assert "reading" in first.stderr.readline()
        w.refused(*command)
        w.works(*w.build(output="not-at-once"))
        first.stdin.write(w.text.read_text())
    finally:
        first.stdin.close()
        assert first.wait(timeout=60) == 0, first.stderr.read()
        first.stderr.close()
    w.works(*w.build("--force", output="at-once"))
