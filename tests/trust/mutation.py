"""Whether the tests notice when the C code is wrong: small random changes, one after the other, each built and tested.

A change is one of CHANGES, at a random place of a function in csrc. The same seed makes the same changes. Only the changed
file is compiled, and linked with the others, in a build with assertions. The tests run that reach the changed line: those first
that get where few others get in its function, then the cheapest of its folder, then some of each file, then the rest, until one
fails. These are the tests of the tier
on cloop with epoll; what fails on the unchanged tree is left out. At last some run with memory that is overwritten when it
is freed, and some with allocations that fail (places.py), of which no process may die; and some many times (rounds.py), after
which no more memory may be in use. A test that fails must fail twice. Tests that take several times as long as they should, and
do not on the unchanged tree, have noticed the change as well.

If gcc makes the same code at -O2, in a release build, the change makes no difference and is not counted: of the file, which is
looked at when its own folder has not noticed the change, and with --linked of the whole, with all that gcc knows of the callers,
which takes a minute for each survivor.

Which tests reach which lines is learnt by one run of the tests, on a build that remembers the blocks that ran (visits.c),
and kept in the folder of the copies. It is learnt anew for files of tests that are not the same any more, and for all if
a twentieth of csrc is not; until then lines may move.

    python tests/trust/mutation.py [--count 200] [--seconds 0] [--seed N] [--jobs 2] [--first 0]
    python tests/trust/mutation.py --seed N --only 17 18   these; with --list, what they are, and nothing is built
    python tests/trust/mutation.py --learn                 what the tests reach, and nothing else

The diff of each survivor is printed. A survivor is a test that is missing, a line that can go, or no difference that a program
could see; those that were judged so are in equivalent.txt, with the reason, and are not counted.
"""

import argparse
import collections
import contextlib
import difflib
import filecmp
import glob
import hashlib
import itertools
import os
import pickle
import random
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# For other systems, or for the tests' own builds.
NOT_JUDGED = {
    "csrc/poller/kqueue.c", "csrc/base/assert.c", "csrc/base/stress.c", "csrc/core/check.c", "csrc/debug.c", "csrc/inject.c",
}  # fmt: skip
NOT_COPIED = shutil.ignore_patterns(".git", "build", "dist", ".venv*", "__pycache__", "*.so", ".hypothesis", ".*_cache")
# Of code whose tests are elsewhere: tests/c/run.py's, and pytest's.
IN_C = {"base": None, "poller": "test_poller"}
ELSEWHERE = {"base": ["tests/core"], "poller": ["tests/core"], "": ["tests/core"]}
# These read the sources, compile them, or need what is not here.
SOURCE_TESTS = ["tests/test_source.py", "tests/test_build.py", "tests/trust", "tests/ecosystem", "tests/conformance"]
PASSED = (0, 5)  # 5: there are none
LIMITED = ["sh", "-c", 'ulimit -v 4194304 && exec "$@"', "sh"]  # KiB: a change may take all the memory
TRAPPED = 100  # tests that run with traps in freed memory
REPEATED = 12  # tests that run many times
LEAKING = ("reference left", "reference taken twice", "call left out")
MOVED = 0.05  # of the lines of csrc, which may be others than those that were learnt
PLACES, PLACES_S = 5, 40  # tests with allocations that fail, and how long
PATIENCE, LEAST_S = 4, 20  # how much longer than on the unchanged tree, and how long in any case
FIRST_S, LATER_S = 10, 60  # tests at a time, by what they take on the unchanged tree


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
    # Assertions, and how large what grows is at first.
    return re.sub(r"\bcl_(assert|check)\w*\([^;]*;|\bCL_TINY\([^;]*?\)", blank, "\n".join(lines))


class Code(str):
    """Masked text; a condition and an argument are taken from the text as it is."""

    original = ""


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
                text = replace(code[match.end() + 1 : last], code[last + 1 : last + 200])
                if text:
                    yield match.end(), last + 1, text % code.original[match.end() + 1 : last]

    return find


def unchecked(condition, what_follows):
    leaves = re.match(r"(?: \{)?\s*(?:return (?:-1|NULL|0)|goto \w+)", what_follows)
    fails = re.search(r"== NULL|< 0|== -1|!= 0|^!|^cl_|^\w+\(", condition)
    return "((%s) && 0)" if leaves and fails else None


def references(wanted):
    """A call of a macro that drops or takes a reference, replaced by wanted(name, argument)."""

    def find(code, begin, end):
        for match in re.compile(r"\b(Py_X?(?:DECREF|INCREF|NewRef|SETREF)|Py_CLEAR)\(").finditer(code, begin, end):
            last = closing(code, match.end() - 1)
            if last is not None:
                argument = code.original[match.end() : last]
                text = wanted(match[1], argument)
                if text and not re.fullmatch(r"(?:.* \? Py_\w+ : )?Py_(None|True|False)", argument, re.S):
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


CHECKED = re.compile(r"< 0|== NULL|return -1")
TURNED = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}
RETURNED = {"0": ["-1"], "1": ["0"], "-1": ["0"], "true": ["false"], "false": ["true"]}


def returned(code, begin, end):
    """1 instead of 0 only where the function returns 1 as well: callers of others ask whether it is less than 0."""
    others = ["1"] if re.search(r"\breturn 1;|\? 1 :|: 1;", code[begin:end]) else []
    for match in re.compile(r"\breturn (0|1|-1|true|false);").finditer(code, begin, end):
        for text in RETURNED[match[1]] + (others if match[1] == "0" else []):
            yield match.start(1), match.end(1), text


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
    "condition negated": conditions(lambda condition, what_follows: "(!(%s))"),
    "return value swapped": returned,
    "and, or": by_pattern(r" (&&|\|\|)\s", lambda match: ["||" if match[1] == "&&" else "&&"]),
    "call left out": by_pattern(r"(?<=[;{})])\s*\n +((?!Py_|return\b)\w+\([^;\n]*\));$", lambda match: ["(void)0"]),
}


class Mutant:
    def __init__(self, number, kind, path, text, first, begin, end, new):
        self.number, self.kind, self.path, self.text = number, kind, path, text
        self.first = text.count("\n", 0, first) + 1  # the line where the function begins
        self.last = self.first + text[first : text.index("\n}", first)].count("\n")
        self.tests = 0  # how many reach it
        old = text[begin:end]
        self.changed = text[:begin] + new + "\n" * (old.count("\n") - new.count("\n")) + text[end:]
        self.line = text.count("\n", 0, begin) + 1

    def __str__(self):
        return "%s:%d %s" % (self.path, self.line, self.kind)

    def diff(self):
        old, new = self.text.splitlines(), self.changed.splitlines()
        return "\n".join(difflib.unified_diff(old, new, self.path, self.path, "", "", 3, ""))

    def key(self):
        """What identifies the change in equivalent.txt, wherever its line moves: the file and the function, and both lines."""
        pairs = zip(self.text.splitlines(), self.changed.splitlines())
        old, new = next(pair for pair in pairs if pair[0] != pair[1])
        before = "\n".join(self.text.split("\n")[: self.first - 1])
        names = re.findall(r"^(\w+)\(", before, re.M)
        return "%s %s" % (self.path, names[-1] if names else ""), old.strip(), new.strip()


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
        code = Code(masked(text))
        code.original = text
        for begin, end in bodies(code):
            for kind, find in CHANGES.items():
                places[kind] += [(path, text, begin) + place for place in find(code, begin, end)]
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


# Building


def run(command, folder, limit, log, **env):
    """The exit status, or None after `limit` seconds, and the output."""
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(os.environ, **env), stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
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


COMPILER = shlex.split(os.environ.get("CC", "gcc"))
SETUP = runpy.run_path(os.path.join(ROOT, "setup.py"))
COMMON = ["-fPIC", "-w", "-Icsrc", "-I" + sysconfig.get_path("include")]
KINDS = {
    "judged": SETUP["flags"]("debug")[0] + ["-DCL_INJECT", "-g0"],
    "plain": SETUP["FLAGS"] + ["-DNDEBUG", "-O2", "-g0"],
    "visited": SETUP["flags"]("debug")[0] + ["-DCL_INJECT", "-fsanitize-coverage=trace-pc"],
    "linked": SETUP["FLAGS"] + ["-DNDEBUG", "-O2", "-g0", "-flto"],
}
LINKING = {"linked": ["-O2", "-flto", "-flto-partition=one", "-s", "-Wl,--build-id=none"]}


class Tree:
    """A copy of the checkout, in which one file is changed at a time. Objects of unchanged files are shared."""

    def __init__(self, folder, objects, tier):
        self.folder, self.objects, self.tier = folder, objects, tier
        self.log = os.path.join(folder, "mutation.log")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
        self.sources = sorted(
            os.path.relpath(path, folder) for path in glob.glob(folder + "/csrc/**/*.c", recursive=True)
        )
        self.extension = os.path.join(folder, "cloop", "_cloop" + sysconfig.get_config_var("EXT_SUFFIX"))

    def compile(self, source, kind, target):
        told = '"%s"' % " ".join(KINDS[kind])
        command = COMPILER + KINDS[kind] + COMMON + ["-DCL_BUILD_FLAGS=" + told, '-DCL_BUILD_COMPILER="gcc"']
        return run(command + ["-c", source, "-o", target], self.folder, 300, target + ".log")

    def unchanged(self, source, kind):
        """The object of this file as it is in the checkout."""
        with open(os.path.join(self.folder, source), "rb") as file:
            name = "%s-%x.o" % (source.replace("/", "-")[:-2], zlib.crc32(file.read()))
        target = os.path.join(self.objects, kind, name)
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            status, text = self.compile(source, kind, target + ".new%d" % threading.get_ident())
            if status:
                sys.exit("the unchanged tree does not build:\n" + text)
            os.replace(target + ".new%d" % threading.get_ident(), target)
        return target

    def link(self, kind, replaced=None, by=None, target=None):
        objects = [by if source == replaced else self.unchanged(source, kind) for source in self.sources]
        if kind == "visited":
            by = os.path.join(self.folder, "visits.o")
            status, text = run(
                COMPILER + SETUP["FLAGS"] + ["-O2", "-fPIC", "-c", "tests/trust/visits.c", "-o", by],
                self.folder,
                60,
                self.log,
            )
            objects.append(by)
        linking = ["-shared", "-pthread", "-o", target or self.extension] + LINKING.get(kind, [])
        status, text = run(COMPILER + objects + linking, self.folder, 300, self.log)
        if status:
            sys.exit("the tree cannot be linked:\n" + text)

    @contextlib.contextmanager
    def changed(self, mutant):
        """The source has the change; not when tests run that read it."""
        source = os.path.join(self.folder, mutant.path)
        try:
            with open(source, "w") as file:
                file.write(mutant.changed)
            yield
        finally:
            with open(source, "w") as file:
                file.write(mutant.text)

    def put(self, mutant):
        """Builds with the change. Whether it compiles."""
        target = os.path.join(self.folder, "changed.o")
        with self.changed(mutant):
            if self.compile(mutant.path, "judged", target)[0]:
                return False
        self.link("judged", mutant.path, target)
        return True

    def compiled(self, mutant, kind):
        target = os.path.join(self.folder, kind + ".o")
        with self.changed(mutant):
            status, text = self.compile(mutant.path, kind, target)
        if status:
            sys.exit("a change compiles in one build only:\n" + text)
        return target

    def same(self, mutant):
        """Whether gcc makes the same code of the file, change or not."""
        return filecmp.cmp(self.compiled(mutant, "plain"), self.unchanged(mutant.path, "plain"), shallow=False)

    def same_linked(self, mutant):
        """Whether gcc makes the same code of all files."""
        there = os.path.join(self.objects, "linked-%s.so" % digest(*sources())[:16])
        if not os.path.exists(there):
            self.link("linked", target=there)
        changed = os.path.join(self.folder, "linked.so")
        self.link("linked", mutant.path, self.compiled(mutant, "linked"), target=changed)
        return filecmp.cmp(changed, there, shallow=False)

    def in_c(self, mutant):
        """The tests in C of this file, with the change. What noticed it, or None."""
        name = IN_C.get(mutant.path.split("/")[1], "")
        name = "test_" + os.path.basename(mutant.path)[:-2] if name is None else name
        if not name or not os.path.exists(os.path.join(self.folder, "tests", "c", name + ".c")):
            return None
        command = [sys.executable, "tests/c/run.py", name]
        with self.changed(mutant):
            status, _ = run(command, self.folder, 600, self.log)
        return "tests/c/%s.c" % name if status and not run(command, self.folder, 600, self.log)[0] else None

    def pytest(self, tests, limit, loops="cloop-epoll", options=(), **env):
        """Runs tests: files, folders or ids. What noticed a change, or None; and all that was printed."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "visits", "-m", "not alone"]
        command += ["--ignore=" + other for other in SOURCE_TESTS] + list(options)
        files = sorted({test.split("::")[0] for test in tests})
        if files != sorted(tests):
            chosen = os.path.join(self.folder, "chosen.txt")
            with open(chosen, "w") as file:
                file.write("\n".join(tests))
            env["CLOOP_CHOSEN"] = chosen
        path = os.pathsep.join([self.folder, os.path.join(self.folder, "tests", "trust")])
        path += os.pathsep + os.path.join(self.folder, "tests") if "places" in options else ""
        env.update(PYTHONPATH=path, CLOOP_TEST_LOOPS=loops, CLOOP_TEST_TIER=self.tier, PYTHONDONTWRITEBYTECODE="")
        status, text = run(LIMITED + command + files, self.folder, limit, self.log, **env)
        if status in PASSED:
            return None, text
        failed = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", text, re.M)  # not what is logged
        if status is None:
            return TOO_LONG, text
        return failed[1] if failed and status == 1 else "exit status %d" % status, text


TOO_LONG = "takes too long"


# Which tests reach which lines


def digest(*paths):
    found = hashlib.sha256(sys.version.encode())
    for path in paths:
        with open(path, "rb") as file:
            found.update(path.encode() + file.read())
    return found.hexdigest()


def sources():
    return sorted(glob.glob("csrc/**/*.[ch]", recursive=True))


class Learnt:
    """One build of which it was learnt what the tests reach."""

    def __init__(self, texts):
        self.texts = texts  # of csrc, each a list of lines
        self.calls = []  # where the calls return to, in order
        self.lines = {}  # the numbers of those of each line: {(path, line): numbers}
        self.moved = {}

    def __getstate__(self):
        return dict(self.__dict__, moved={})

    def share(self, texts):
        """Of the lines that there are, how many there were not."""
        others = sum(len(set(lines) - set(self.texts.get(path, ()))) for path, lines in texts.items())
        return others / sum(map(len, texts.values()))

    def at(self, path, line, texts):
        """Where this line was, or else the nearest before it that was there."""
        if path not in self.moved:
            now, then = texts[path], self.texts.get(path, [])
            pairs = difflib.SequenceMatcher(None, now, then, autojunk=False).get_matching_blocks()
            self.moved[path] = None if now == then else pairs
        if self.moved[path] is None:
            return line
        found = 0
        for now, then, count in self.moved[path]:
            if now < line and count:
                found = then + min(line - now, count)
        return found

    def numbers(self, path, line, first, last, texts):
        """Of the blocks of this line, or the nearest one before it in its function that has code; or any line of the function."""
        line, first = self.at(path, line, texts), self.at(path, first, texts)
        while line > first and (path, line) not in self.lines:
            line -= 1
        wanted = [line] if last is None else range(first, self.at(path, last, texts) + 1)
        return set().union(*(self.lines.get((path, line), ()) for line in wanted))


def texts_of_sources():
    found = {}
    for path in sources():
        with open(path) as file:
            found[path] = file.read().split("\n")
    return found


class Reach:
    """What the tests reach, learnt on the unchanged tree."""

    def __init__(self, path, tier):
        self.path, self.tier = path, tier
        self.learnt, self.files = (
            [],
            {},
        )  # {file of tests: (what identifies it, Learnt, {test: (cost, outcome, visited)})}
        self.reached, self.texts = None, texts_of_sources()
        if os.path.exists(path):
            with open(path, "rb") as file:
                self.files = pickle.load(file)

    def save(self):
        with open(self.path + ".new", "wb") as file:
            pickle.dump(self.files, file)
        os.replace(self.path + ".new", self.path)

    def wanted(self):
        """Files of tests whose reach is not known, and what identifies them."""
        found = glob.glob("tests/**/test_*.py", recursive=True)
        found = sorted(path for path in found if not path.startswith(tuple(SOURCE_TESTS)))
        shared = glob.glob("tests/**/conftest.py", recursive=True)
        modules = {os.path.basename(path)[:-3]: path for path in glob.glob("tests/shared/*.py")}

        def read_with(path):
            with open(path, encoding="utf-8") as file:
                imported = re.findall(r"^(?:import|from) (\w+)", file.read(), re.M)
            conftests = [each for each in shared if path.startswith(each[:-11])]
            return conftests + sorted(modules[name] for name in modules.keys() & set(imported))

        now = {path: self.tier + digest(path, *read_with(path)) for path in found}
        share = {learnt: learnt.share(self.texts) for learnt in {known[1] for known in self.files.values()}}
        self.files = {path: known for path, known in self.files.items() if path in now and share[known[1]] <= MOVED}
        return {path: now[path] for path in found if path not in self.files or self.files[path][0] != now[path]}

    def blocks(self, extension):
        """Where the calls return to, in order, and the numbers of those of each line."""
        calls, lines = [], collections.defaultdict(set)
        command = ["objdump", "-d", "-l", "--no-show-raw-insn", "-j", ".text", extension]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True)
        place, current, before, called = None, None, [], False
        for line in process.stdout:
            source = re.match(r"/.*/(csrc/\S+\.c):(\d+)", line)
            if source:
                place = source[1], int(source[2])
            elif line.startswith("/"):
                place = None
            elif re.match(r"[0-9a-f]+ <", line):
                place, current, before = None, None, []
            elif line.startswith(" "):
                if called:
                    calls.append(int(line.split(":")[0], 16))
                    current = len(calls) - 1
                    for each in before:
                        lines[each].add(current)
                    before = []
                called = "<__sanitizer_cov_trace_pc" in line
                if place is not None and (called or current is None):
                    before.append(place)
                elif place is not None:
                    lines[place].add(current)
        process.wait()
        return calls, dict(lines)

    def learn(self, tree, jobs):
        wanted = self.wanted()
        if not wanted:
            return
        began = time.monotonic()
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda source: tree.unchanged(source, "visited"), tree.sources))
        tree.link("visited")
        learnt = Learnt(self.texts)
        learnt.calls, learnt.lines = self.blocks(tree.extension)
        root = os.path.join(tree.folder, "visits")
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        options = ["-n", str(jobs), "--dist", "worksteal"] if jobs > 1 else []
        _, text = tree.pytest(sorted(wanted), 7200, options=options, CLOOP_VISITS_ROOT=root)
        pick, tests = itemgetter(*(offset >> 2 for offset in learnt.calls)), collections.defaultdict(dict)
        for path in glob.glob(os.path.join(root, "**", "*.tests"), recursive=True):
            with open(path, "rb") as file:
                while True:
                    try:
                        test, cost, outcome, visited = pickle.load(file)
                    except EOFError:
                        break
                    bits = bytes(pick(zlib.decompress(visited))).translate(b"01" + bytes(254))
                    tests[test.split("::")[0]][test] = cost, outcome, int(bits[::-1], 2)
        shutil.rmtree(root)
        for path in wanted:
            self.files[path] = wanted[path], learnt, tests[path]
        left_out = [test for path in wanted for test, known in tests[path].items() if known[1] == "failed"]
        print("the tests of %d files reach %d of %d blocks, learnt in %d s%s" % (
            len(wanted), bin(self.union(tests.values())).count("1"), len(learnt.calls), time.monotonic() - began, "".join(
                "\nleft out, as it fails: " + test for test in left_out)), flush=True)  # fmt: skip
        if not any(tests.values()):
            sys.exit("no test ran:\n" + text[-3000:])
        self.save()

    @staticmethod
    def union(files):
        found = 0
        for tests in files:
            for _, _, visited in tests.values():
                found |= visited
        return found

    def paths(self):
        """Files of csrc of which something is reached."""
        if self.reached is None:
            self.reached = set()
            for learnt in {known[1] for known in self.files.values()}:
                union = self.union(tests for _, each, tests in self.files.values() if each is learnt)
                self.reached |= {
                    path for (path, _), numbers in learnt.lines.items() if any(union >> n & 1 for n in numbers)
                }
        return self.reached

    def of(self, path, line, first, last=None):
        """The tests that reach this line, or any from the first to the last of its function: {test: cost}."""
        found, wanted = {}, {}
        for _, learnt, tests in self.files.values():
            if learnt not in wanted:
                numbers = learnt.numbers(path, line, first, last, self.texts)
                wanted[learnt] = sum(1 << number for number in numbers)
            for test, (cost, outcome, visited) in tests.items():
                if visited & wanted[learnt] and outcome == "passed":
                    found[test] = cost
        return found

    def rarest(self, mutant, tests):
        """These tests, first those that get where few others get in the function: into the branch of an error, for example."""
        reached, hits = collections.defaultdict(list), collections.Counter()
        for _, learnt, known in self.files.values():
            numbers = learnt.numbers(mutant.path, mutant.line, mutant.first, mutant.last, self.texts)
            for test in tests & known.keys():
                visited = known[test][2]
                reached[test] = [(learnt, number) for number in numbers if visited >> number & 1]
                hits.update(reached[test])
        return sorted(tests, key=lambda test: -sum(1 / hits[block] for block in reached[test]))


def batches(costs, path, rarest):
    """The tests in the order in which they run, in lists: the first of `rarest`, those of the folder, some of each file, the
    rest."""
    folder = path.split("/")[1:-1]
    near = ["tests/" + folder[0] + "/"] if folder else ["tests/core/", "tests/test_"]
    near = [each + "/" for each in ELSEWHERE.get(folder[0] if folder else "", ())] + near
    own = os.path.basename(path)[:-2].replace("loop_", "")
    cheapest = sorted(costs, key=costs.get)
    left = dict.fromkeys(sorted(cheapest, key=lambda test: "/test_%s" % own not in test))

    def take(tests, most_s, most):
        taken, total = [], 0
        for test in tests:
            if len(taken) == most or (taken and total + costs[test] > most_s):
                break
            taken.append(test)
            total += costs[test]
        for test in taken:
            del left[test]
        return [taken] if taken else []

    found = take(rarest, FIRST_S, 40)
    found += take([test for test in left if test.startswith(tuple(near))], FIRST_S, 80)
    seen, spread = collections.Counter(), []
    for test in cheapest:
        name = test.split("::")[0]
        seen[name] += 1
        if test in left and seen[name] <= 6:
            spread.append(test)
    found += take(spread, FIRST_S, 200)
    left = {test: None for test in rarest if test in left}
    while left:
        found += take(list(left), LATER_S, 1000)
    return found


# Judging


class Judge:
    def __init__(self, tree, reach, kept, most_s):
        self.tree, self.reach, self.kept, self.most_s = tree, reach, kept, most_s
        self.unsteady = set()  # tests that failed once only

    def judge(self, mutant):
        """What noticed the change, or None; False if it does not compile, or makes no difference."""
        if not self.tree.put(mutant):
            return False
        costs = self.reach.of(mutant.path, mutant.line, mutant.first)
        mutant.tests = len(costs)
        if not costs:
            if self.tree.same(mutant):
                return False
            return self.nearest(mutant) if mutant.path not in self.reach.paths() else self.tree.in_c(mutant)
        spent = 0
        for number, tests in enumerate(batches(costs, mutant.path, self.reach.rarest(mutant, costs.keys()))):
            spent += sum(costs[test] for test in tests)
            if spent > self.most_s and number:
                break
            noticed = self.notices(tests, sum(costs[test] for test in tests))
            # An assertion may be of what the release build does not have.
            if (noticed is None and number == 0 or noticed == "exit status -6") and self.tree.same(mutant):
                return False
            if noticed:
                return noticed
        return self.tree.in_c(mutant) or self.at_last(mutant, costs)

    def at_last(self, mutant, costs):
        noticed = None
        if mutant.kind == "reference left":
            noticed = self.with_traps(costs)
        elif mutant.kind == "error not checked" or CHECKED.search(mutant.key()[1]):
            noticed = self.without_memory(mutant)
        if noticed is None and mutant.kind in LEAKING:
            noticed = self.in_rounds(costs)
        return noticed

    def in_rounds(self, costs):
        """The same tests again and again: what leaves more memory in use each time, and does not if nothing is changed."""
        tests = [test for test in sorted(costs, key=costs.get) if "/isolated/" not in test][:REPEATED]
        limit = LEAST_S + 20 * PATIENCE * sum(costs[test] for test in tests)
        how = {"options": ["-p", "rounds"]}

        def grows(tests):
            text = self.tree.pytest(tests, limit, **how)[1] if tests else ""
            return [test for test in re.findall(r"^FAILED (.+?)(?: - .*)?$", text, re.M) if test in tests]

        found = grows(tests)
        if found:
            with self.as_it_was():
                known = grows(found)
            found = grows([test for test in found if test not in known])
        return "rounds: " + found[0] if found else None

    def with_traps(self, costs):
        """With memory that is overwritten when it is freed, as AddressSanitizer would show: what dies counts, not what fails."""
        tests = sorted(costs, key=costs.get)[:TRAPPED]
        limit = LEAST_S + 2 * PATIENCE * sum(costs[test] for test in tests)
        return self.dies("with traps", tests, limit, PYTHONMALLOC="debug")

    def without_memory(self, mutant):
        """Allocations that fail, in tests that reach the function: nothing may die of it, or raise a SystemError."""
        costs = self.reach.of(mutant.path, mutant.line, mutant.first, mutant.last)
        tests = [test for test in self.reach.rarest(mutant, costs.keys()) if "/isolated/" not in test][:PLACES]
        options, seconds = ["-x", "-p", "places"], str(PLACES_S / 2)
        return self.dies("places", tests, PLACES_S, options=options, CLOOP_PLACES_SECONDS=seconds) if tests else None

    def dies(self, name, tests, limit, **how):
        """A process that dies of a signal, or a SystemError, and would not if nothing were changed."""
        noticed, _ = self.tree.pytest(tests, limit, **how)
        counts = noticed and (noticed.startswith("exit status -") or name == "places" and noticed in tests)
        if counts and self.unchanged(tests, limit, **how) != noticed:
            return "%s: %s" % (name, noticed)
        return None

    def nearest(self, mutant):
        """Tests of a file that none is known to reach: the other poller's."""
        folder = "/".join(mutant.path.split("/")[1:-1])
        loops = "cloop-poll" if mutant.path.endswith("/poll.c") else "cloop-epoll"
        where = ELSEWHERE.get(folder, ["tests/" + folder])
        return self.tree.in_c(mutant) or self.tree.pytest(where, 600, loops=loops, options=["-x"])[0]

    def notices(self, tests, cost):
        limit = LEAST_S + PATIENCE * cost
        tests = [test for test in tests if test not in self.unsteady]
        while tests:
            noticed, _ = self.tree.pytest(tests, limit, options=["-x"])
            if noticed == TOO_LONG:
                if self.unchanged(tests, limit) != TOO_LONG:
                    return noticed
                limit *= 4
            elif noticed in tests and self.tree.pytest([noticed], limit)[0] is None:
                self.unsteady.add(noticed)
                tests.remove(noticed)
            else:
                return noticed
        return None

    @contextlib.contextmanager
    def as_it_was(self):
        """The extension is that of the unchanged tree."""
        changed = self.tree.extension + ".changed"
        os.replace(self.tree.extension, changed)
        shutil.copy2(self.kept, self.tree.extension)
        try:
            yield
        finally:
            os.replace(changed, self.tree.extension)

    def unchanged(self, tests, limit, **how):
        """What these tests notice on the unchanged tree."""
        with self.as_it_was():
            return self.tree.pytest(tests, limit, **how)[0]


def main():
    parser = argparse.ArgumentParser(prog="tests/trust/mutation.py", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="changes that compile and make a difference")
    parser.add_argument("--seconds", type=float, default=0, help="no change is begun after these; 0: no limit")
    parser.add_argument(
        "--most", type=float, default=100, help="seconds of tests for a change, as they took when learnt"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--tier", default="ci", help="of the tests, as in tests/conftest.py")
    parser.add_argument("--linked", action="store_true", help="look whether the linked code of survivors is the same")
    parser.add_argument("--jobs", type=int, default=1, help="changes at a time")
    parser.add_argument("--first", type=int, default=0, help="leaves out those before")
    parser.add_argument("--only", type=int, nargs="+", help="these alone")
    parser.add_argument("--list", action="store_true", help="print the changes, and do nothing")
    parser.add_argument("--learn", action="store_true", help="learn what the tests reach, and do nothing else")
    parser.add_argument("--folder", default=os.path.join(ROOT, "build", "mutation"), help="of the copies")
    options = parser.parse_args()
    os.chdir(ROOT)
    print("seed %d" % options.seed, flush=True)
    stream = mutants(options.seed)
    known = equivalents()
    if options.list:
        for mutant in itertools.islice(stream, max(options.only or [options.count - 1]) + 1):
            if mutant.number >= options.first and mutant.number in (options.only or [mutant.number]):
                print("%4d %s\n%s\n" % (mutant.number, mutant, mutant.diff()))
        return 0

    for name in ("CLOOP_WERROR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CFLAGS", "CLOOP_TEST_SEED"):
        os.environ.pop(name, None)
    headers = digest(*(path for path in sources() if path.endswith(".h")))
    objects = "objects-%s-%x" % (headers[:16], zlib.crc32(repr((KINDS, LINKING)).encode()))
    objects = os.path.join(options.folder, objects)
    for path in set(glob.glob(os.path.join(options.folder, "objects-*"))) - {objects}:
        shutil.rmtree(path)
    trees = [
        Tree(os.path.join(options.folder, "tree%d" % number), objects, options.tier) for number in range(options.jobs)
    ]
    reach = Reach(os.path.join(options.folder, "reach"), options.tier)
    reach.learn(trees[0], options.jobs)
    if options.learn:
        return 0
    began = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda source: trees[0].unchanged(source, "judged"), trees[0].sources))
    kept = os.path.join(options.folder, "unchanged.so")
    trees[0].link("judged", target=kept)

    tally, lock, survivors = collections.Counter(), threading.Lock(), []
    shares = collections.defaultdict(list)

    def wanted():
        """The next change, or None at the end."""
        with lock:
            if tally["judged"] + tally["begun"] >= options.count or (
                options.seconds and time.monotonic() - began > options.seconds
            ):
                return None
            for mutant in stream:
                if options.only and mutant.number > max(options.only):
                    return None
                if mutant.number >= options.first and mutant.number in (options.only or [mutant.number]):
                    tally["begun"] += 1
                    return mutant

    def work(tree):
        judge = Judge(tree, reach, kept, options.most)
        for mutant in iter(wanted, None):
            start = time.monotonic()
            told = None
            if mutant.key() in known:
                noticed, told = False, "no difference: " + known[mutant.key()]
            else:
                noticed = judge.judge(mutant)
                if noticed is None and options.linked and tree.same_linked(mutant):
                    noticed = False
            with lock:
                tally["begun"] -= 1
                if noticed is False:
                    tally["no change"] += 1
                else:
                    tally["judged"] += 1
                    tally["noticed"] += noticed is not None
                    for told_of in mutant.kind, os.path.dirname(mutant.path) or "csrc":
                        shares[told_of].append(noticed is not None)
                    tally["too long"] += noticed == TOO_LONG
                if noticed is None:
                    survivors.append(mutant)
                    tally["unreached"] += not mutant.tests
                    told = "SURVIVES %s that reach it\n%s" % (
                        "%d tests" % mutant.tests if mutant.tests else "no test",
                        mutant.diff(),
                    )
                told = told or noticed or "does not compile, or is the same code"
                print("%4d %-58s %3d s  %s" % (mutant.number, mutant, time.monotonic() - start, told), flush=True)
        if judge.unsteady:
            print("failed once only, and did not count: " + ", ".join(sorted(judge.unsteady)), flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(work, trees))
    share = 100.0 * tally["noticed"] / max(1, tally["judged"])
    print("\n" + ", ".join("%s: %d of %d" % (name, sum(each), len(each)) for name, each in sorted(shares.items())))
    print("survivors: %s" % (" ".join(str(mutant.number) for mutant in survivors) or "none"))
    print("changes: %d, noticed: %d (%.1f %%, %d of them since tests took too long), survived: %d, %d of them where no test gets; "
          "did not compile or made no difference: %d" % (
        tally["judged"], tally["noticed"], share, tally["too long"], tally["judged"] - tally["noticed"],
        tally["unreached"], tally["no change"]))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
