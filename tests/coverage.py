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
    python tests/coverage.py --groups   say of each folder how many branches are not taken, and of what kind these seem to be
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
OF_MACROS = r"\s*(\w+ \*+)?\w+ = PyMem_New\(.*\);\s*$|\s*Py_TRASHCAN_END;\s*$|\s*(\(void\))?(Py_(X?(INC|DEC)REF|CLEAR|VISIT|X?SETREF|TRASHCAN_\w+)|CL_VISIT_TYPE)\(.*\);\s*$|\s*CL_\w+_(OBJECTS|FIELDS|CONSTANTS|GUARDS)\((VISIT|CLEAR)\)\s*$"
ELSEWHERE = "The asyncio of another Python"  # how a reason begins whose lines only other Pythons reach
FAILURE = "An allocation fails, or a call of the interpreter that fails only then"
UNJUDGED = "Not judged yet: a test, a reason, or a line that can go"
# What an error path has, and nothing else.
OF_FAILURE = re.compile(
    r"return (NULL|-1|false|CL_OP_FAILED|status|err);|goto \w+;|Py_X?DECREF\(.*\);|Py_CLEAR\(.*\);|PyErr_\w+\(.*|\? -1.*|"
    r"(result|status|err) = -1;|cl_free\(.*\);"
)

# What a branch that is not taken is about, as its text says: a guess. In this order.
MEMORY, PYTHON, SYSTEM, CHECK, MOMENT, REST = "fails", "Python", "system", "check", "moment", "rest"
GROUPS = [MEMORY, PYTHON, SYSTEM, CHECK, MOMENT, REST]
REASONS = {  # how those of tests/unreached.txt begin
    ELSEWHERE: PYTHON, "Without a GIL": PYTHON, "Another C library": SYSTEM, "The kernel": SYSTEM, FAILURE: MEMORY, "OpenSSL": CHECK,
    "asyncio or the socket": CHECK, "The module's state": CHECK, "A watchdog": CHECK, "It must be there": CHECK,
    "A destructor": MOMENT, "Another thread": MOMENT, "The processor": MOMENT,
}  # fmt: skip
OF_PYTHONS = r"\bhas\(|has_\w+\(|WITH_|CL_HAS_|CL_NAMES|variant|WAKES_|COMPETES|NOTIFIES|\bskips\b|numbered|have_|is_shutdown|_SHUTDOWN\b|ss_(made|lost)|writelines_|RAISES_NEW|ABI|awaited_by|own_tasks|layouts_fit|named_later|eager|ASKS_"
OF_SYSTEMS = r"errno|EINTR|EPERM|is_refused|S_IS|REFUSED|may_pass|cmsg|\bfcntl|getppid|pid\b|phdr|p_memsz|SEGMENTS|PAIRS_MAX|\bfound[.-]|fstat|sa_handler|sa_flags|wt_reported"
OF_CHECKS = r"\b(st|self) (==|!=) NULL|guards?_hold|is_plain|pinned|(is|are)_known|Check\w*\(|stock|plain|known|PyType_Is|tp_\w+|g_\w+|(are|is)_ours|Py_TYPE|_cast\(|type ==|GET_SIZE|nargs|kwnames|PyFunction_|replaced\(|overrides|\bstr__?\w+|ml?_\w+ ==|look\w*\(|sh_\w+|may_begin|Py_(None|False|True)|_class|is_own|s[sy]_on|is_loops|is_asyncios|suits|take_info|cell|f_loop|loop ==|recipe|rc_|LONG_M|owner|count ==|PyUnicode_Compare|FOR_EACH"
OF_MOMENTS = r"generation|c_state|l_closed|cn_stage|so_woken|was_done|emptied|EMPTIED|w_want|running|l_turn_thread|thread_id|REFCNT|x_state|CL_X_|conn_lost|CL_T_|l_open|l_fork|pulse|beat|late\b|i_shut|inbox_filled|is_unchanged|same\b|o_stage|ht_\w+|sigsock|wakeup|f_state"
OF_STATUSES = r"^[(!]*(status|err|result|error|failed|outcome|done|woken|found|cancelled|count|ends|any|truth|removed|called|answer|closed|taken|written|sent|got|value|now|ok|released|added|kept|left)\w*\s*(==|!=|<|<=|>|>=)|FAILED|[<>]= 0|< 0|== -1|!= 0|PyErr_|== 0\)*;?( \{)?$|PyArg_|Py(Object|Tuple|Dict|List|Set|Bytes|Long|Unicode|Mem)_|Py_BuildValue|_raise|cl_log|_new\(|NO_MEMORY|ENOMEM|is_exit|GivenException|_(CONSTANTS|BODIES)\(|cl_spares"
COMPARED = re.compile(r"([\w>.-]+)\)* (?:==|!=) NULL")


def operands(text):
    """[(operand, what follows it)] of the conditions in a line."""
    text = re.sub(r"^\}?\s*(else )?(if|while|return|for)\s*\(?", "", text)
    parts = re.split(r"(&&|\|\||\?)", text)
    return [part.strip() for part in parts[::2]]


def group_of(path, source, at, operand):
    """Of a branch that is not taken, in a line that is reached."""
    text = operand if len(operand) > 2 else source[at].strip()
    if path.endswith(("/poll.c", "/kqueue.c")):
        return SYSTEM
    if re.search(OF_PYTHONS, text):
        return PYTHON
    first = next((n for n in range(at, 0, -1) if source[n] == "{"), 0)
    compared = COMPARED.search(text)
    if re.search(r"\b(st|self) (==|!=) NULL", text):
        return CHECK
    if compared or re.fullmatch(r"[(!]*\w+(->\w+)*\)*;?( \{)?", text):
        name = compared[1] if compared else re.sub(r"\W", "", text)
        before = " ".join(line.strip() for line in source[first : at + 1])
        if compared and re.search(r"[^=!<>]=[^=]|\)\s*[=!]= NULL", text):
            return MEMORY
        if re.search(r"(^|[^\w>.])" + re.escape(name) + r" =\s", before):  # the result of something
            return MEMORY
        if compared:
            return CHECK
    if re.search(r"< 0|FAILED", text):
        return MEMORY
    for pattern, group in (OF_SYSTEMS, SYSTEM), (OF_CHECKS, CHECK), (OF_MOMENTS, MOMENT), (OF_STATUSES, MEMORY):
        if re.search(pattern, text):
            return group
    if re.match(r":? ?(0|NULL|-1)\)*;?$|: ", text):
        return MEMORY
    return CHECK if re.search(r"\b[ijkn] (<|!=|==) ", text) else REST


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
        self.groups = collections.Counter()  # (folder, group): branches not taken
        reasons = {line.lstrip("~"): reason for reason, lines in groups().items() for line in lines}
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
                folder = file["file"].split("/")[1] if file["file"].count("/") > 1 else "(others)"
                parts = operands(text)
                for number, branch in enumerate(branches):
                    if branch["count"]:
                        continue
                    if line["count"]:  # two for each condition
                        fits = len(parts) in (len(branches) // 2, len(branches) // 2 + 1) and number // 2 < len(parts)
                        operand = parts[number // 2] if fits else text
                        group = group_of(file["file"], texts, at - 1, operand)
                    else:
                        why = reasons.get(name, FAILURE if OF_FAILURE.fullmatch(text) else UNJUDGED)
                        group = next((REASONS[begin] for begin in REASONS if why.startswith(begin)), REST)
                    self.groups[folder, group] += 1
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
    parser.add_argument("--groups", action="store_true", help="print of what kind the branches are that are not taken")
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
    if options.groups:
        print(" | ".join(["folder", "not taken", *GROUPS]))
        for folder in [*sorted({folder for folder, _ in unreached.groups}), None]:
            counts = [
                sum(n for at, n in unreached.groups.items() if at[1] == group and folder in (at[0], None))
                for group in GROUPS
            ]
            print(" | ".join([folder or "all", str(sum(counts)), *map(str, counts)]))
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
