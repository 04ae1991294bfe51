"""What of the C code no test reaches.

`make coverage` runs the suite on a build that counts lines and branches, and then this. tests/unreached.txt names each line
that is not reached, and why. It is wrong if a line is missing from it, or if it has one that is reached or gone. Lines that
begin with `~` are reached by some runs only: they may be reached, but they may not be gone.

The exit status is 2 if lines are missing from the file and nothing else is wrong: another run may reach them, since what
threads and the kernel do differs. `make coverage` then runs everything once more, and adds the counts.

    python tests/coverage.py            compare, and say how much is reached
    python tests/coverage.py --list     print the lines that are not reached and not in the file, in its format
    python tests/coverage.py --update   write it again: without what is reached or gone, and with what is new, to be judged;
                                        lines with `~` stay, unless --all: then those go that this run has reached
    python tests/coverage.py --files    say how many lines and branches of each file are not reached
    python tests/coverage.py --branches print the lines of which a branch is not taken, though they are reached
    python tests/coverage.py --last     with any of these: the figures of the last run, which are in build/coverage.json
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LIST = os.path.join(ROOT, "tests", "unreached.txt")
FIGURES = os.path.join(ROOT, "build", "coverage.json")


def measured(last):
    """gcovr's figures for each file of csrc."""
    if not last:
        command = [sys.executable, "-m", "gcovr", "--root", ROOT, "--filter", "csrc/", "--json", FIGURES]
        command += ["--gcov-ignore-parse-errors=negative_hits.warn_once_per_file", "--exclude-throw-branches"]
        for pattern in NOT_SHIPPED:
            command += ["--exclude", pattern]
        command += ["--exclude-branches-by-pattern", OF_MACROS]
        command += ["--merge-mode-functions=separate", os.path.join(ROOT, "build")]
        subprocess.run(command, check=True, cwd=ROOT)
    with open(FIGURES) as file:
        return json.load(file)["files"]


NOT_SHIPPED = [
    "csrc/inject.c",
    "csrc/base/stress.[ch]",
    "csrc/base/compat_stress.h",
]  # what makes faults is not counted
# The branches of a line that is nothing but one of Python's macros are Python's: whether a reference is NULL, whether it was
# the last one, whether a visitor stops, whether an array has more bytes than there are. The line itself counts. So it is with
# one that does the same for a table of objects.
OF_MACROS = r"\s*(\w+ \*+)?\w+ = PyMem_New\(.*\);\s*$|\s*(\(void\))?(Py_(X?(INC|DEC)REF|CLEAR|VISIT|X?SETREF|TRASHCAN_\w+)|CL_VISIT_TYPE)\(.*\);\s*$|\s*CL_\w+_(OBJECTS|FIELDS|CONSTANTS|GUARDS)\((VISIT|CLEAR)\)\s*$"
ELSEWHERE = "The asyncio of another Python"  # how a reason begins whose lines only other Pythons reach
FAILURE = "An allocation fails, or a call of the interpreter that fails only then"
UNJUDGED = "Not judged yet: a test, a reason, or a line that can go"
# What an error path has, and nothing else.
OF_FAILURE = re.compile(
    r"return (NULL|-1|false|CL_OP_FAILED|status|err);|goto \w+;|Py_X?DECREF\(.*\);|Py_CLEAR\(.*\);|PyErr_\w+\(.*|\? -1.*|"
    r"(result|status|err) = -1;|cl_free\(.*\);"
)


def merged(lines):
    """One for each number: what two Pythons have compiled differently is there twice."""
    found = {}
    for line in lines:
        known = found.setdefault(line["line_number"], line)
        if known is line:
            continue
        known["count"] += line["count"]
        one, other = known.get("branches", []), line.get("branches", [])
        if len(one) == len(other):
            for branch, same in zip(one, other):
                branch["count"] += same["count"]
        elif sum(bool(branch["count"]) for branch in other) > sum(bool(branch["count"]) for branch in one):
            known["branches"] = other
    return list(found.values())


class Unreached:
    """The lines that are not reached. A line is known by its file, its function and its text, so that it may move."""

    def __init__(self, files):
        self.lines = self.reached = self.branches = self.taken = self.elsewhere = 0
        others = collections.Counter(
            line.lstrip("~") for reason, lines in groups().items() if reason.startswith(ELSEWHERE) for line in lines
        )
        self.found = collections.Counter()
        self.by_file = {}
        self.partly = []  # (file, number, branches not taken, branches, text) of lines that are reached
        self.there = set()  # all that is a line of code
        for file in files:
            with open(os.path.join(ROOT, file["file"]), encoding="utf-8") as source:
                texts = source.read().split("\n")
            lines = merged(line for line in file["lines"] if not line.get("gcovr/noncode"))
            missed = [line for line in lines if not line["count"]]
            self.lines += len(lines)
            self.reached += len(lines) - len(missed)
            all_branches = all_taken = 0
            for line in lines:
                at = line["line_number"]
                text = texts[at - 1].strip()
                name = "%s: %s: %s" % (file["file"], line.get("function_name", "?"), text)
                self.there.add(name)
                branches = [branch for branch in line.get("branches", ()) if not branch.get("gcovr/excluded")]
                if not line["count"]:
                    self.found[name] += 1
                    if self.found[name] <= others[name]:
                        self.elsewhere += 1
                        continue
                taken = sum(1 for branch in branches if branch["count"])
                all_branches, all_taken = all_branches + len(branches), all_taken + taken
                if line["count"] and taken < len(branches):
                    self.partly.append((file["file"], at, len(branches) - taken, len(branches), text))
            self.branches += all_branches
            self.taken += all_taken
            self.by_file[file["file"]] = (len(lines), len(missed), all_branches, all_branches - all_taken)


def groups():
    """{reason: its lines} of the file, in its order. A reason is a comment, and holds for what follows."""
    found, reason = {}, None
    if os.path.exists(LIST):
        with open(LIST, encoding="utf-8") as file:
            for line in file.read().split("\n"):
                if line.startswith("# "):
                    reason = line[2:]
                    found[reason] = []
                elif line:
                    found[reason].append(line)
    return found


def listed():
    """The file's lines, and those of them that some runs reach."""
    lines = [line for group in groups().values() for line in group]
    always = collections.Counter(line for line in lines if not line.startswith("~"))
    return always, collections.Counter(line[1:] for line in lines if line.startswith("~"))


def update(unreached, drops_all):
    left, kept = unreached.found.copy(), collections.OrderedDict()
    for reason, lines in groups().items():
        kept[reason] = []
        for line in lines:
            plain = line.lstrip("~")
            if left[plain] > 0 or (line.startswith("~") and plain in unreached.there and not drops_all):
                kept[reason].append(line)
                left[plain] -= 1
    for line in sorted((+left).elements()):
        reason = FAILURE if OF_FAILURE.fullmatch(line.split(": ", 2)[2]) else UNJUDGED
        kept.setdefault(reason, []).append("~" + line)
    with open(LIST, "w", encoding="utf-8") as file:
        for reason, lines in kept.items():
            if lines:
                file.write("# %s\n%s\n\n" % (reason, "\n".join(sorted(lines))))


def main():
    parser = argparse.ArgumentParser(prog="tests/coverage.py", description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print what is not reached and not in the file")
    parser.add_argument("--update", action="store_true", help="write the file again")
    parser.add_argument("--all", action="store_true", help="with --update: without all that this run has reached")
    parser.add_argument("--files", action="store_true", help="print how many lines of each file are not reached")
    parser.add_argument("--branches", action="store_true", help="print the lines of which a branch is not taken")
    parser.add_argument("--last", action="store_true", help="use the figures of the last run")
    options = parser.parse_args()
    unreached = Unreached(measured(options.last))
    if options.update:
        update(unreached, options.all)
    always, sometimes = listed()
    new, old = unreached.found - always - sometimes, always - unreached.found
    old += collections.Counter(line for line in sometimes if line not in unreached.there)
    if options.list:
        print("\n".join(sorted(new.elements())))
        return 0
    if options.files:
        for path, (lines, missed, branches, not_taken) in sorted(
            unreached.by_file.items(), key=lambda item: -item[1][1]
        ):
            print("%5d of %5d lines, %5d of %5d branches  %s" % (missed, lines, not_taken, branches, path))
    for row in unreached.partly if options.branches else ():
        print("%s:%d: %d of %d: %s" % row)
    for line in sorted(new.elements()):
        print("not reached: %s" % line)
    for line in sorted(old.elements()):
        print("reached, or gone: %s" % line)
    counted = unreached.lines - unreached.elsewhere
    print(
        "lines: %d of %d, %.1f %%; %d more are of other Pythons"
        % (unreached.reached, counted, 100 * unreached.reached / counted, unreached.elsewhere)
    )
    print(
        "branches: %d of %d, %.1f %%"
        % (unreached.taken, unreached.branches, 100 * unreached.taken / unreached.branches)
    )
    return 1 if old else 2 if new else 0


if __name__ == "__main__":
    sys.exit(main())
