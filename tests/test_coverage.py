"""tests/coverage.py: when the list of what no test reaches is wrong."""

import importlib.util
import os
import sys

import pytest

SOURCE = """int
f(void)
{
    one();
    two();
    one();
}
"""
LINES = {4: "one();", 5: "two();", 6: "one();"}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The module, whose sources are a file of ours, and whose list is empty."""
    path = os.path.join(os.path.dirname(__file__), "coverage.py")
    spec = importlib.util.spec_from_file_location("coverage_of_c", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "f.c").write_text(SOURCE)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "LIST", str(tmp_path / "unreached.txt"))
    return module


@pytest.fixture
def judge(program, monkeypatch, tmp_path, capsys):
    """judge(counts, listed, *options): the exit status, and what was printed, for {number of a line: how often it was reached}."""

    def judge(counts, listed, *options):
        lines = [
            {
                "line_number": number,
                "function_name": "f",
                "count": counts[number],
                "branches": [{"count": counts[number]}],
            }
            for number in LINES
            if number in counts
        ]
        monkeypatch.setattr(program, "measured", lambda last: [{"file": "csrc/f.c", "lines": lines}])
        if listed is not None:
            (tmp_path / "unreached.txt").write_text("# A reason\n%s\n" % "\n".join(listed))
        monkeypatch.setattr(sys, "argv", ["coverage.py", *options])
        status = program.main()
        return status, capsys.readouterr().out

    return judge


ONE, TWO = "csrc/f.c: f: one();", "csrc/f.c: f: two();"
ALL = {4: 1, 5: 1, 6: 1}


def test_all_is_reached(judge):
    assert judge(ALL, []) == (0, "lines: 3 of 3, 100.0 %; 0 more are of other Pythons\nbranches: 3 of 3, 100.0 %\n")


@pytest.mark.parametrize("listed", [[TWO], ["~" + TWO]])
def test_a_line_that_is_listed(judge, listed):
    assert judge({4: 1, 5: 0, 6: 1}, listed)[0] == 0


def test_a_line_that_is_not_listed_may_be_reached_by_another_run(judge):
    status, printed = judge({4: 1, 5: 0, 6: 1}, [])
    assert status == 2 and printed.startswith("not reached: " + TWO)


def test_two_lines_with_the_same_text_are_listed_twice(judge):
    assert judge({4: 0, 5: 1, 6: 0}, [ONE, "~" + ONE])[0] == 0
    assert judge({4: 0, 5: 1, 6: 0}, [ONE])[0] == 2
    assert judge({4: 0, 5: 1, 6: 1}, [ONE, ONE])[0] == 1


def test_a_line_that_is_reached_after_all(judge):
    status, printed = judge(ALL, [TWO])
    assert status == 1 and printed.startswith("reached, or gone: " + TWO)


def test_a_line_that_some_runs_reach(judge):
    assert judge(ALL, ["~" + TWO])[0] == 0


@pytest.mark.parametrize("mark", ["", "~"])
def test_a_line_that_is_gone(judge, mark):
    status, printed = judge(ALL, [mark + "csrc/f.c: f: three();"])
    assert status == 1 and printed.startswith("reached, or gone: csrc/f.c: f: three();")


def test_update_keeps_the_reasons_and_what_flickers(judge, program):
    judge({4: 0, 5: 1, 6: 1}, ["csrc/f.c: f: gone();", ONE, "~" + TWO], "--update")
    assert program.groups() == {"A reason": [ONE, "~" + TWO]}
    judge({4: 0, 5: 1, 6: 1}, None, "--update", "--all")
    assert program.groups() == {"A reason": [ONE]}
    judge({4: 0, 5: 0, 6: 1}, None, "--update")
    assert program.groups() == {"A reason": [ONE], program.UNJUDGED: ["~" + TWO]}


def test_lines_of_another_python_are_not_counted(judge, program, tmp_path):
    (tmp_path / "unreached.txt").write_text("# %s calls it\n%s\n" % (program.ELSEWHERE, TWO))
    status, printed = judge({4: 1, 5: 0, 6: 1}, None)
    assert status == 0 and printed.startswith("lines: 2 of 2, 100.0 %; 1 more are of other Pythons")
    assert printed.endswith("branches: 2 of 2, 100.0 %\n")


@pytest.mark.parametrize(
    "text, group",
    [
        ("if (made == NULL)", "fails"),
        ("if (cl_loop_schedule(loop, timer) < 0)", "fails"),
        ("if (status == 0 && go_on(loop))", "fails"),
        ("if (given == NULL)", "check"),
        ("if (!cl_guard_holds(guard))", "check"),
        ("if (CL_HAS_EAGER_START)", "Python"),
        ("} while (errno == EINTR);", "system"),
        ("if (self->x_state != CL_TLS_WRAPPED)", "moment"),
        ("if (size > room)", "rest"),
    ],
)
def test_what_a_branch_is_about(program, text, group):
    source = ["int", "f(given)", "{", "    made = g();", "    " + text, "}"]
    assert program.group_of("csrc/core/f.c", source, 4, program.operands(text)[0]) == group


def test_branches_that_are_not_taken_by_folder(judge):
    status, printed = judge({4: 1, 5: 0, 6: 1}, [TWO], "--groups")
    assert status == 0 and "(others) | 1 | 0 | 0 | 0 | 0 | 0 | 1\n" in printed
