"""How benchmarks.instr handles valgrind's dumps and accepted figures; valgrind itself is not run."""

import json
from pathlib import Path

import pytest

from benchmarks import registry
from benchmarks.instr import __main__ as command
from benchmarks.instr import measure
from benchmarks.instr.measure import Figure, Outcome
from benchmarks.instr.rows import ROWS

DUMP = """\
events: Ir
ob=(1) /usr/lib/libpython.so
fn=(1) eval
0 700
cob=(2) /somewhere/cloop/_cloop.cpython-311.so
cfn=(2) turn
calls=1 0
0 400
fn=(3) other
0
+0 50
ob=(2)
fn=(2)
0
0 300
0 20
cob=(1)
cfn=(1)
calls=3 +4
* 80
ob=(1)
fn=(1)
0 10

totals: 1080
"""


TRACE = """\
SYSCALL[7,1](1) sys_write ( 1, 0x1, 1 )[sync] --> Success(0x1)
SYSCALL[7,1](121) sys_getpgid ( 1000000001 )[sync] --> Failure(0x3)
SYSCALL[7,1](45) sys_recvfrom ( 8, 0x43760a0, 262144, 64, 0x0, 0x0 ) --> [async] ...
SYSCALL[7,1](45) ... [async] --> Success(0x400)
SYSCALL[7,1](228) sys_clock_gettime( 1, 0x1fff000690 )[sync] --> Success(0x0)
SYSCALL[8,1](1) sys_write ( 1, 0x1, 1 )[sync] --> Success(0x1)
SYSCALL[7,1](121) sys_getpgid ( 1000000003 )[sync] --> Failure(0x3)
SYSCALL[7,1](7) sys_poll ( 0x1ffeffe940, 1, 0 )
SYSCALL[7,1](7) ... [async] --> Success(0x1)
SYSCALL[7,1](121) sys_getpgid ( 1000000004 )[sync] --> Failure(0x3)
a line of another kind
SYSCALL[7,2](233) sys_epoll_ctl ( 6, EPOLL_CTL_MOD, 9, 0x1ffeffe944 )[sync] --> Success(0x0)
SYSCALL[7,1](121) sys_getpgid ( 1000000002 )[sync] --> Failure(0x3)
SYSCALL[7,1](3) sys_close ( 9 )[sync] --> Success(0x0)
SYSCALL[7,1](121) sys_getpgid ( 1000000001 )[sync] --> Failure(0x3)
SYSCALL[7,1](121) sys_getpgid ( 1000000002 )[sync] --> Failure(0x3)
"""


def outcomes(**costs):
    return {name: Outcome(Figure(instructions, 1, syscalls, 0)) for name, (instructions, syscalls) in costs.items()}


ACCEPTED = {"tcp_echo_protocol": {"instructions": 1000, "syscalls": 2}}


def test_instructions_of_a_dump():
    assert measure._instructions(DUMP.splitlines()) == (1080, 320)


def test_system_calls_in_a_trace():
    assert measure._syscalls(TRACE.splitlines()) == {7: [2, 0]}


def test_figure_is_the_median_of_differences(tmp_path):
    # The last dump is written when the process ends.
    for number, instructions in enumerate([100, 300, 120, 380, 90, 300, 50], 1):
        (tmp_path / "dump.7.{}".format(number)).write_text("totals: {}\n".format(instructions))
    (tmp_path / "dump.71.1").write_text("totals: 9\n")
    assert measure._figure(tmp_path, 7, 10, [1, 3, 1, 3, 1, 4]) == Figure(21, 0, 0.2, pytest.approx(6 / 21))


@pytest.mark.parametrize("instructions, syscalls, good", [
    (1000, 2, True),
    (1029, 2, True),
    (1031, 2, False),
    (1000, 2.1, False),
    (500, 1, True),
])  # fmt: skip
def test_check(instructions, syscalls, good):
    assert command.check(outcomes(tcp_echo_protocol=(instructions, syscalls)), ACCEPTED) is good


def test_the_kernel_decides_how_often_a_bulk_sender_writes():
    accepted = {"tls_bulk_send": {"instructions": 1000, "syscalls": 2}}
    assert command.check(outcomes(tls_bulk_send=(1000, 2.15)), accepted)
    assert not command.check(outcomes(tls_bulk_send=(1000, 2.3)), accepted)
    assert not command.check(outcomes(tls_bulk_send=(1040, 2)), accepted)


def test_check_names_the_row(capsys):
    command.check(outcomes(tcp_echo_protocol=(1100, 2)), ACCEPTED)
    assert "tcp_echo_protocol: 1100 instructions an operation, and 1000 are accepted" in capsys.readouterr().err


def test_check_leaves_out_what_varies():
    assert command.check(outcomes(run_in_executor=(10, 1)), {"run_in_executor": {"instructions": 1, "syscalls": 0}})


def test_accepting_one_row_keeps_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ACCEPTED", tmp_path / "accepted")
    environment = {"python": "3.11.7", "machine": "x"}
    command.accept(environment, outcomes(sleep_0=(10, 1), pingpong=(20, 2)))
    command.accept(environment, outcomes(pingpong=(30, 2), run_in_executor=(5, 5)))
    known = json.loads((tmp_path / "accepted" / "3.11.json").read_text())
    assert known["environment"] == environment
    assert known["rows"] == {
        "sleep_0": {"instructions": 10, "syscalls": 1},
        "pingpong": {"instructions": 30, "syscalls": 2},
    }
    # Figures of two environments are not mixed.
    command.accept({**environment, "machine": "y"}, outcomes(pingpong=(40, 2)))
    assert list(command.read_accepted(environment)["rows"]) == ["pingpong"]


def test_rows_are_rows():
    known = registry.load()
    for name, counted in ROWS.items():
        assert known[name].metric == "cpu" and counted.operations % known[name].batch == 0, name


def test_accepted_files_name_rows():
    for path in Path(command.ACCEPTED).glob("*.json"):
        assert set(json.loads(path.read_text())["rows"]) <= {name for name, row in ROWS.items() if row.guarded}
