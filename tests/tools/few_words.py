"""A text of a few words, its vocabulary and its shards, for tests of verbs that train."""
import subprocess


def write(folder, lines):
    """Writes `text`, so many sentences in documents of nine, and `vocab.txt` into the folder."""
    words = [f"w{i}" for i in range(30)]
    text = [" ".join(words[(n + i) % 30] for i in range(3 + n % 6)) + ("\n" if n % 9 == 8 else "") for n in range(lines)]
    (folder / "text").write_text("\n".join(text))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words) + "\n")


def build(binary, folder, *more):
    """The same, and the shards of `text` in `data`; `more` are flags of `data build`."""
    write(folder, lines=400)
    subprocess.run([binary, "data", "build", "--vocab", folder / "vocab.txt", "--output", folder / "data", "--sequence-length", "24",
                    *more, folder / "text"], check=True, capture_output=True)
