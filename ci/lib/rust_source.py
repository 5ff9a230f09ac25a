"""Reads Rust source for ci/reading-order and ci/audit: tokens, `mod` lines, attributes and paths.

It knows no types and expands no macro. It reads a macro's body like other code. ci/audit refuses `include!`.
"""

import os
import re
from collections import namedtuple

Token = namedtuple("Token", "kind text line")
# A `mod` line. `within` are the inline modules around it, `attributes` its outer attributes without blanks.
Mod = namedtuple("Mod", "name line within attributes")
# A path, from `use` (with the name it gives, `*` for a glob) or inline (`given` is None).
Path = namedtuple("Path", "segments line within given")

_TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
    |(?P<block>/\*)
    |(?P<string>(?:b|c)?r(?P<hashes>\#*)".*?"(?P=hashes)|(?:b|c)?"(?:\\.|[^"\\])*")
    |(?P<char>b?'(?:\\u\{[^}]*\}|\\x[0-9a-fA-F]{2}|\\.|[^'\\\n])')
    |(?P<lifetime>'[A-Za-z_]\w*)
    |(?P<name>(?:r\#)?[A-Za-z_]\w*)
    |(?P<number>\d\w*(?:\.\d\w*)?)
    |(?P<mark>::|.)""",
    re.X | re.S,
)


def tokens(text):
    """The tokens of a file, without blanks and comments."""
    position, line, found = 0, 1, []
    while position < len(text):
        match = _TOKEN.match(text, position)
        kind, end = match.lastgroup, match.end()
        if kind == "block":
            depth = 1
            for mark in re.compile(r"/\*|\*/").finditer(text, end):
                depth += 1 if mark[0] == "/*" else -1
                end = mark.end()
                if depth == 0:
                    break
        elif kind != "blank":
            kind = "string" if match["string"] else kind
            found.append(Token(kind, match[0].removeprefix("r#") if kind == "name" else match[0], line))
        line += text.count("\n", position, end)
        position = end
    return found


class File:
    """One source file."""

    def __init__(self, name):
        self.name = name
        with open(name) as file:
            self.text = file.read()
        self.tokens = tokens(self.text)
        self.mods, self.paths, self.inner = [], [], []
        self._read()

    def _read(self):
        all_, index, scopes = self.tokens, 0, []
        at = lambda i: all_[i].text if 0 <= i < len(all_) else ""
        while index < len(all_):
            token = all_[index]
            within = tuple(scope for scope in scopes if scope)
            if token.text == "#" and at(index + 1) == "!" and at(index + 2) == "[":
                end = self.closing(index + 2)
                self.inner.append("".join(t.text for t in all_[index + 3 : end]))
                index = end
            elif token.text == "{":
                scopes.append(None)
            elif token.text == "}":
                scopes = scopes[:-1]
            elif token.text == "mod" and token.kind == "name" and at(index + 2) == ";":
                self.mods.append(Mod(at(index + 1), token.line, within, self._attributes(index)))
                index += 2
            elif token.text == "mod" and token.kind == "name" and at(index + 2) == "{":
                scopes.append(at(index + 1))
                index += 2
            elif token.text == "use" and token.kind == "name" and at(index + 1) != "<":
                index = self._use(index + 1, (), within)
            elif token.kind == "name" and at(index + 1) == "::":
                index = self._path(index, within)
            index += 1

    def closing(self, index):
        """The index of the bracket that closes the one at `index`."""
        depth = 0
        for end in range(index, len(self.tokens)):
            depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}.get(self.tokens[end].text, 0)
            if depth == 0:
                return end
        raise SystemExit(f"{self.name}:{self.tokens[index].line}: a bracket is not closed")

    def _attributes(self, index):
        """The outer attributes of the item whose keyword is at `index`."""
        found, index = [], index - 1
        text = lambda i: self.tokens[i].text if i >= 0 else ""
        if text(index) == ")" and "pub" in [text(index - 3), text(index - 4), text(index - 5)]:
            while text(index) != "pub":
                index -= 1
        if text(index) == "pub":
            index -= 1
        while text(index) == "]":
            start, depth = index, 0
            while True:
                depth += {"]": 1, "[": -1}.get(text(start), 0)
                if depth == 0:
                    break
                start -= 1
            if text(start - 1) != "#":
                break
            found.insert(0, "".join(t.text for t in self.tokens[start + 1 : index]))
            index = start - 2
        return found

    def _use(self, index, prefix, within):
        """Reads a `use` tree from `index`; returns the index of what ends it."""
        segments, given, line = prefix, None, self.tokens[index].line
        while True:
            token = self.tokens[index]
            if token.text == "{":
                index += 1
                while self.tokens[index].text != "}":
                    index = self._use(index, segments, within)
                    index += self.tokens[index].text == ","
                return index + 1
            if token.text == "*":
                given = "*"
            elif token.text == "as":
                given = self.tokens[index + 1].text
                index += 1
            elif token.kind == "name":
                if not (token.text == "self" and segments):
                    segments += (token.text,)
            elif token.text != "::":
                self.paths.append(Path(segments, line, within, given or segments[-1]))
                return index
            line = token.line
            index += 1

    def _path(self, index, within):
        """Reads a path in code; returns the index of its last token."""
        first, segments = index, [self.tokens[index].text]
        before = [t.text for t in self.tokens[max(0, index - 2) : index]]
        while index + 2 < len(self.tokens) and self.tokens[index + 1].text == "::" and self.tokens[index + 2].kind == "name":
            index += 2
            segments.append(self.tokens[index].text)
        tail = before[-2:] == [">", "::"] # <T as Trait>::name
        if not tail and before != ["(", "in"]: # pub(in path)
            self.paths.append(Path(tuple(segments), self.tokens[first].line, within, None))
        return index

    def absolute(self, path):
        """The segments of a path, with its first one replaced by what this file imports under that name."""
        segments, used = path.segments, [path]
        while True:
            for other in self.paths:
                if other.given == segments[0] and other.within in (path.within, ()) and other not in used:
                    break
            else:
                return segments
            segments = other.segments + segments[1:]
            used.append(other)


class Crate:
    """A crate: its files by their module paths, as its `mod` lines say."""

    def __init__(self, root):
        self.root = root
        self.files = {(): File(root)}
        self.faults = []
        self._enter((), os.path.dirname(root))

    def _enter(self, module, folder):
        file = self.files[module]
        for mod in file.mods:
            if any(attribute.startswith("path=") for attribute in mod.attributes):
                self.faults.append(f"{file.name}:{mod.line}: a `path` attribute hides where mod {mod.name} is")
                continue
            base = os.path.join(folder, *mod.within, mod.name)
            for name, inside in ((f"{base}.rs", base), (f"{base}/mod.rs", base)):
                if os.path.exists(name):
                    child = module + mod.within + (mod.name,)
                    self.files[child] = File(name)
                    self._enter(child, inside)
                    break
            else:
                self.faults.append(f"{file.name}:{mod.line}: mod {mod.name} has no file")

    def resolve(self, module, path):
        """Where a path leads: (module, segments left over), or None if it leaves the crate."""
        segments, here = list(path.segments), module + path.within
        if segments[0] == "crate":
            base, segments = (), segments[1:]
        elif segments[0] in ("self", "super"):
            base = here
            while segments and segments[0] in ("self", "super"):
                base = base[:-1] if segments.pop(0) == "super" else base
        elif here + (segments[0],) in self.files:
            base = here
        else:
            return None
        while segments and base + (segments[0],) in self.files:
            base += (segments.pop(0),)
        while base not in self.files: # an inline module
            segments.insert(0, base[-1])
            base = base[:-1]
        return base, segments
