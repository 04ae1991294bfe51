"""Whether the tests notice when the C code is wrong: small random changes, one after the other, each built and tested.

A change is one of CHANGES, at a random place of a function in csrc. The same seed makes the same changes. Each is made in a
copy of the tree, in a build with assertions; only that file is compiled. First the tests run that are most likely to notice
(those of the file, then of its folder, with the slow ones), then, for what is left, the others of the tier commit, on cloop with
epoll, each with a limit of time and memory. What fails on the unchanged tree is left out. A change does not count if it does not compile, or if
the compiler makes the same code of it.

    python tests/trust/mutation.py [--count 200] [--seed N] [--jobs 2] [--first 0]
    python tests/trust/mutation.py --seed N --only 17      one of them; with --list, what they are, and nothing is built

The diff of each survivor is printed. A survivor is a test that is missing, a line that can go, or no difference that a program
could see; those that were judged so are in equivalent.txt, with the reason, and are not counted.
"""

import argparse
import collections
import difflib
import glob
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# For other systems, or for the tests' own builds.
NOT_JUDGED = {
    "csrc/poller/kqueue.c", "csrc/base/assert.c", "csrc/base/stress.c", "csrc/core/check.c", "csrc/debug.c", "csrc/inject.c",
}  # fmt: skip
NOT_COPIED = shutil.ignore_patterns(".git", "build", "dist", ".venv*", "__pycache__", "*.so", ".hypothesis", ".*_cache")
FOLDERS = ["net", "tls", "streams", "core", "futures", "sync", "processes", "isolated"]
# Of code whose tests are elsewhere: tests/c/run.py's, and pytest's.
IN_C = {"base": None, "poller": "test_poller"}
ELSEWHERE = {"base": ["tests/core"], "poller": ["tests/core"], "": ["tests/core"]}
# These read the sources, or compile them.
SOURCE_TESTS = ["tests/test_source.py", "tests/test_build.py", "tests/trust", "tests/ecosystem", "tests/conformance"]
PASSED = (0, 5)  # 5: there are none
MEMORY = 4 << 30
PATIENCE, LEAST_S = 5, 90  # how much longer than on the unchanged tree; at least


# Places


def masked(text):
    """The text with comments, strings, directives and what other builds have replaced by blanks, at the same places."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)
    lines, others, depth = [], 0, 0
    continued = False
    for line in text.split("\n"):
        directive = continued or line.lstrip().startswith("#")
        if directive and not continued:
            word = line.replace(" ", "")
            if word.startswith("#if"):
                depth += 1
                if not others and re.match(r"#if(def|defined\()?CL_(DEBUG|STRESS|INJECT|COVERAGE|KQUEUE)", word):
                    others = depth
            elif word.startswith(("#else", "#elif")) and others == depth:
                others = 0
            elif word.startswith("#endif"):
                others = 0 if others == depth else others
                depth -= 1
        continued = directive and line.endswith("\\")
        lines.append(" " * len(line) if directive or others else line)
    return re.sub(r"\bcl_(assert|check)\w*\([^;]*;", blank, "\n".join(lines))


def bodies(text):
    """Where functions begin and end."""
    return [(match.start(), match.end()) for match in re.finditer(r"^\{\n.*?^\}", text, re.M | re.S)]


def closing(text, at):
    """Where the parenthesis at this place is closed."""
    depth = 0
    for n in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[n], 0)
        if not depth:
            return n
    return None


def by_pattern(pattern, replace):
    """Places of a pattern; replace(match) is what may stand there, as a list of texts."""

    def find(code, begin, end):
        for match in re.compile(pattern, re.M).finditer(code, begin, end):
            for text in replace(match):
                yield match.start(1), match.end(1), text

    return find


def conditions(replace):
    def find(code, begin, end):
        for match in re.compile(r"\b(?:if|while) (?=\()").finditer(code, begin, end):
            last = closing(code, match.end())
            if last is not None:
                condition = code[match.end() + 1 : last]
                text = replace(condition, code[last + 1 : last + 200])
                if text:
                    yield match.end(), last + 1, text

    return find


def unchecked(condition, what_follows):
    leaves = re.match(r"(?: \{)?\s*(?:return (?:-1|NULL|0)|goto \w+)", what_follows)
    fails = re.search(r"== NULL|< 0|== -1|!= 0|^!|^cl_|^\w+\(", condition)
    return "((%s) && 0)" % condition if leaves and fails else None


def references(wanted):
    """A call of a macro that drops or takes a reference, replaced by wanted(name, argument)."""

    def find(code, begin, end):
        for match in re.compile(r"\b(Py_X?(?:DECREF|INCREF|NewRef|SETREF)|Py_CLEAR)\(").finditer(code, begin, end):
            last = closing(code, match.end() - 1)
            if last is not None:
                text = wanted(match[1], code[match.end() : last])
                if text:
                    yield match.start(), last + 1, text

    return find


def left(name, argument):
    if name.endswith("NewRef"):
        return "((PyObject *)(%s))" % argument
    if name.endswith("SETREF"):
        return "%s = (%s)" % tuple(argument.split(",", 1))
    return "%s = NULL" % argument if name == "Py_CLEAR" else "(void)(%s)" % argument


def doubled(name, argument):
    if name.endswith("INCREF"):
        return "%s(%s), %s(%s)" % (name, argument, name, argument)
    return "(Py_XINCREF(%s), %s(%s))" % (argument, name, argument) if name.endswith("NewRef") else None


TURNED = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}
RETURNED = {"0": ["1", "-1"], "1": ["0"], "-1": ["0"], "true": ["false"], "false": ["true"]}
CHANGES = {
    "comparison turned": by_pattern(r" (==|!=|<=|>=|<|>) ", lambda match: [TURNED[match[1]]]),
    "off by one": by_pattern(
        r"(?<![\w.])(\d+)(?![\w.])(?!;\s*$)", lambda match: [str(int(match[1]) + 1)] + [str(int(match[1]) - 1)]
    ),
    "reference left": references(left),
    "reference taken twice": references(doubled),
    "flag not set": by_pattern(
        r"^ *([\w\]\[]+(?:->|\.)[\w>.\]\[-]+ (?:\|=|&=|=) (?:[01]|true|false|NULL|~?[A-Z][A-Z_0-9]+));",
        lambda match: ["(void)0"],
    ),
    "error not checked": conditions(unchecked),
    "condition negated": conditions(lambda condition, what_follows: "(!(%s))" % condition),
    "return value swapped": by_pattern(r"\breturn (0|1|-1|true|false);", lambda match: RETURNED[match[1]]),
    "and, or": by_pattern(r" (&&|\|\|)\s", lambda match: ["||" if match[1] == "&&" else "&&"]),
    "call left out": by_pattern(r"(?<=[;{})])\s*\n +((?!Py_|return\b)\w+\([^;\n]*\));$", lambda match: ["(void)0"]),
}


class Mutant:
    def __init__(self, number, kind, path, text, begin, end, new):
        self.number, self.kind, self.path, self.text = number, kind, path, text
        old = text[begin:end]
        self.changed = text[:begin] + new + "\n" * (old.count("\n") - new.count("\n")) + text[end:]
        self.line = text.count("\n", 0, begin) + 1

    def __str__(self):
        return "%s:%d %s" % (self.path, self.line, self.kind)

    def diff(self):
        old, new = self.text.splitlines(), self.changed.splitlines()
        return "\n".join(difflib.unified_diff(old, new, self.path, self.path, "", "", 3, ""))

    def key(self):
        """What identifies the change in equivalent.txt, wherever its line moves."""
        pairs = zip(self.text.splitlines(), self.changed.splitlines())
        old, new = next(pair for pair in pairs if pair[0] != pair[1])
        return self.path, old.strip(), new.strip()


def relative(path):
    return os.path.relpath(path, ROOT)


def mutants(seed):
    """All that this seed makes, in their order; each place once."""
    rng, places, taken = random.Random(seed), collections.defaultdict(list), set()
    for path in sorted(map(relative, glob.glob(os.path.join(ROOT, "csrc", "**", "*.c"), recursive=True))):
        if path in NOT_JUDGED:
            continue
        with open(os.path.join(ROOT, path)) as file:
            text = file.read()
        code = masked(text)
        for begin, end in bodies(code):
            for kind, find in CHANGES.items():
                places[kind] += [(path, text) + place for place in find(code, begin, end)]
    number = 0
    while True:
        kind = rng.choice(list(CHANGES))
        place = rng.choice(places[kind])
        if place not in taken:
            taken.add(place)
            yield Mutant(number, kind, *place)
            number += 1


def equivalents():
    """What was judged to make no difference: {(path, old line, new line): reason}."""
    found, block = {}, []
    with open(os.path.join(HERE, "equivalent.txt")) as file:
        for line in list(file) + [""]:
            if line.strip() and not line.startswith("#"):
                block.append(line.strip())
            elif block:
                path, old, new, *reason = block
                found[path, old.lstrip("- "), new.lstrip("+ ")] = " ".join(reason)
                block = []
    return found


# Building and testing


class Tree:
    """The copy, and what its tests do while nothing is changed."""

    def __init__(self, folder, jobs):
        self.folder, self.jobs = folder, jobs
        self.usual, self.left_out = {}, set()
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED, dirs_exist_ok=True)
        self.env = dict(os.environ, CLOOP_BUILD="debug", CFLAGS="-O1 -g0", PYTHONPATH=folder)
        for name in ("CLOOP_WERROR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
            self.env.pop(name, None)
        self.unlink()
        status, text = self.build()
        if status:
            sys.exit("the unchanged tree does not build:\n" + text)

    def run(self, command, limit, **env):
        """The exit status, or None after `limit` seconds, and the output."""
        log = os.path.join(self.folder, "mutation.log")
        with open(log, "w") as file:
            process = subprocess.Popen(
                command, cwd=self.folder, env=dict(self.env, **env), stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
            )  # fmt: skip
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        with open(log, errors="replace") as file:
            return status, file.read()

    def build(self):
        return self.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], 1800)

    def object_of(self, path):
        (found,) = glob.glob(os.path.join(self.folder, "build", "temp.*", "debug", path[:-2] + ".o"))
        return found

    def put(self, mutant):
        """Builds with the change. Whether it makes a difference, or None if it does not compile."""
        source, target = os.path.join(self.folder, mutant.path), self.object_of(mutant.path)
        shutil.copy2(source, source + ".kept")
        shutil.copy2(target, target + ".kept")
        with open(source, "w") as file:
            file.write(mutant.changed)
        status, _ = self.build()
        if status:
            return None
        with open(target, "rb") as new, open(target + ".kept", "rb") as old:
            return new.read() != old.read()

    def take_back(self, mutant):
        for path in os.path.join(self.folder, mutant.path), self.object_of(mutant.path):
            os.replace(path + ".kept", path)
        self.unlink()

    def unlink(self):
        """What was linked may be newer than what it is made of now."""
        for path in glob.glob(os.path.join(self.folder, "**", "_cloop*.so"), recursive=True):
            os.remove(path)

    def tests(self, where, path=""):
        """Runs these tests. What noticed a change, or None."""
        ignored = ["--ignore=" + other for other in SOURCE_TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not alone"]
        command += ignored + ["--deselect=" + test for test in sorted(self.left_out)] + where
        if self.jobs > 1:
            command += ["-n", str(self.jobs), "--dist", "worksteal"]
        loops = {"CLOOP_TEST_LOOPS": "cloop-poll" if path.endswith("poll.c") and "epoll" not in path else "cloop-epoll"}
        loops["CLOOP_TEST_TIER"] = "ci" if len(where) == 1 else "commit"
        if tuple(where) not in self.usual:
            return command, loops
        status, text = self.run(command + ["-x"], max(LEAST_S, PATIENCE * self.usual[tuple(where)]), **loops)
        if status in PASSED:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
        if status is None:
            return "takes too long"
        return failed[1] if failed else "exit status %d" % status

    def learn(self, where, path):
        """How long these tests take on the unchanged tree, and which of them fail."""
        if tuple(where) in self.usual:
            return
        self.build()
        command, loops = self.tests(where, path)
        began = time.monotonic()
        status, text = self.run(command, 3600, **loops)
        self.usual[tuple(where)] = time.monotonic() - began
        failing = re.findall(r"^(?:FAILED|ERROR) (\S+)", text, re.M)
        self.left_out.update(failing)
        if status not in PASSED + (1,) or (status == 1 and not failing):
            sys.exit("the unchanged tree fails: %s\n%s" % (" ".join(where), text[-3000:]))
        print("unchanged: %s takes %d s%s" % (" ".join(where), self.usual[tuple(where)], "".join(
            "; left out: " + test for test in failing)), flush=True)  # fmt: skip

    def in_c(self, mutant):
        """The tests in C of this file, with it as it is in the tree."""
        name = IN_C.get(mutant.path.split("/")[1], "")
        name = "test_" + os.path.basename(mutant.path)[:-2] if name is None else name
        if not name or not os.path.exists(os.path.join(self.folder, "tests", "c", name + ".c")):
            return None
        status, _ = self.run([sys.executable, "tests/c/run.py", name], 600)
        return "tests/c/%s.c" % name if status else None


def nearest(path):
    """The tests most likely to notice: the file's own, if there are any, then the folder's."""
    folder = "/".join(path.split("/")[1:-1])
    own = "tests/%s/test_%s.py" % (folder or "core", os.path.basename(path)[:-2].replace("loop_", ""))
    near = ELSEWHERE.get(folder, ["tests/" + folder])
    return [[own]] * os.path.exists(os.path.join(ROOT, own)), near


def others(path):
    near = nearest(path)[1]
    found = ["tests/" + folder for folder in FOLDERS if "tests/" + folder not in near]
    return found + sorted(map(relative, glob.glob(os.path.join(ROOT, "tests", "test_*.py"))))


def judge(tree, mutant, stage):
    """What noticed the change, or None; False if it does not compile, or makes no difference."""
    near = nearest(mutant.path)
    wanted = near[0] + [near[1]] if stage == "near" else [others(mutant.path)]
    for where in wanted:
        tree.learn(where, mutant.path)
    try:
        differs = tree.put(mutant)
        if not differs:
            return False
        noticed = tree.in_c(mutant) if stage == "near" else None
        if noticed:
            return noticed
        # Tests that read the sources see the right ones.
        shutil.copy2(os.path.join(tree.folder, mutant.path + ".kept"), os.path.join(tree.folder, mutant.path))
        for where in wanted:
            noticed = tree.tests(where, mutant.path)
            if noticed:
                return noticed
        return None
    finally:
        tree.take_back(mutant)


def main():
    parser = argparse.ArgumentParser(prog="tests/trust/mutation.py", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="changes that compile and make a difference")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--jobs", type=int, default=1, help="tests at a time")
    parser.add_argument("--first", type=int, default=0, help="leaves out those before")
    parser.add_argument("--only", type=int, help="one of them")
    parser.add_argument("--list", action="store_true", help="print the changes, and do nothing")
    parser.add_argument("--near", action="store_true", help="only the tests that are most likely to notice")
    parser.add_argument("--folder", default=os.path.join(ROOT, "build", "mutation"), help="of the copy")
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    stream = mutants(options.seed)
    known = equivalents()
    if options.list:
        for _ in range(options.count):
            mutant = next(stream)
            if mutant.number >= options.first and options.only in (None, mutant.number):
                print("%4d %s\n%s\n" % (mutant.number, mutant, mutant.diff()))
        return 0
    tree = Tree(options.folder, options.jobs)
    tally, left = collections.Counter(), []
    while tally["judged"] < (options.count if options.only is None else 1):
        mutant = next(stream)
        if mutant.number < options.first or (options.only is not None and mutant.number != options.only):
            continue
        began = time.monotonic()
        if mutant.key() in known:
            noticed, told = False, "no difference: " + known[mutant.key()]
        else:
            noticed = judge(tree, mutant, "near")
            told = noticed or {None: "not noticed nearby", False: "does not compile, or is the same code"}[noticed]
        if noticed is False:
            tally["no change"] += 1
        else:
            tally["judged"] += 1
            tally["noticed"] += noticed is not None
            if noticed is None:
                left.append(mutant)
        print("%4d %-58s %3d s  %s" % (mutant.number, mutant, time.monotonic() - began, told), flush=True)
        if noticed is None:
            print(mutant.diff(), flush=True)
        if options.only is not None:
            break
    survivors = []
    for mutant in left if not options.near else ():
        began = time.monotonic()
        noticed = judge(tree, mutant, "others")
        print(
            "%4d %-58s %3d s  %s" % (mutant.number, mutant, time.monotonic() - began, noticed or "SURVIVES"), flush=True
        )
        tally["noticed"] += noticed is not None
        if noticed is None:
            survivors.append(mutant)
    for mutant in survivors:
        print("\nSURVIVES: %d %s\n%s" % (mutant.number, mutant, mutant.diff()))
    share = 100.0 * tally["noticed"] / max(1, tally["judged"])
    print("\nchanges: %d, noticed: %d (%.1f %%), survived: %d; did not compile or made no difference: %d" % (
        tally["judged"], tally["noticed"], share, tally["judged"] - tally["noticed"], tally["no change"]))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
