"""Messages of the sources that advise a command or an edit: what MB_CHECK, MB_CHECK_AS and fail<...> say.

A string constant of the same file that a message names (`kFix`) counts as part of it.
"""
import dataclasses
import re

FOLDERS = ("core", "autograd", "nn", "optim", "dist", "models", "tools/minibert")
CALL = re.compile(r"\b(?:MB_CHECK(?:_AS|_EQ)?|fail<\w+>|fail)\s*\(")
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
CONSTANT = re.compile(r"constexpr const char ?\* ?(k\w+) =\s*((?:\"(?:[^\"\\\n]|\\.)*\"\s*)+);")
# A word that begins an instruction, at the beginning of a sentence or after "or", "then", ",".
VERBS = ("Use|Add|Leave|Rename|Run|Give|Resume|Build|Choose|Set|Write|Copy|Remove|Unset|Mend|Make|Create|Install|Change|Name|Start|"
         "Replace|Convert|Raise|Lower|Shorten|Quote|Put|Train|Move|Export|Print|Score|Go on|Begin|Draw|Try")
ADVICE = re.compile(rf"(?:^|[.:;!?] |\n|\}} ?)(?:{VERBS})\b|`minibert |minibert \w+ --|, or (?:{VERBS.lower()})\b")


@dataclasses.dataclass(frozen=True)
class Message:
    file: str
    line: int
    text: str  # its literals, joined; {} where a value stands

    def place(self):
        return f"{self.file}:{self.line}"


def end_of_call(text, start):
    """Where the bracket that opens at `start` closes."""
    depth, at, quoted = 0, start, False
    while at < len(text):
        if quoted:
            if text[at] == "\\":
                at += 1
            elif text[at] == '"':
                quoted = False
        elif text[at] == '"':
            quoted = True
        elif text[at] == "'" and text[at + 1:at + 3] in ('"\'', "('", ")'"):
            at += 2  # a character, not a string
        elif text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return at


def literals(text):
    return "".join(LITERAL.findall(text)).replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def messages_of(name, text):
    """The messages of one file that advise something."""
    constants = {key: literals(value) for key, value in CONSTANT.findall(text)}
    for match in CALL.finditer(text):
        body = text[match.end():end_of_call(text, match.end() - 1)]
        said = literals(body) + "".join(" " + value for key, value in constants.items() if re.search(rf"\b{key}\b", body))
        if ADVICE.search(said):
            yield Message(name, text.count("\n", 0, match.start()) + 1, said)


def sources(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".cpp", ".h", ".cu"):
                yield path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")


def all_messages(root):
    return [message for name, text in sources(root) for message in messages_of(name, text)]


def all_texts(root):
    """All strings of each file, joined."""
    return [literals(text) for _, text in sources(root)]
