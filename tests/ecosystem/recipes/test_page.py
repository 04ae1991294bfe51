"""docs/frameworks.md and the tests that run it; and what runs them."""

import glob
import os

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


def test_every_block_has_a_test(blocks):
    text = ""
    for path in glob.glob(os.path.join(HERE, "test_*.py")):
        with open(path, encoding="utf-8") as file:
            text += file.read()
    assert [name for name in blocks if '"%s"' % name not in text] == []


def test_a_block_without_a_name_is_refused(read_blocks):
    assert read_blocks("<!-- recipe: a -->\n```\nb\nc\n```\n") == {"a": "b\nc\n"}
    for text in ("```\nb\n```\n", 2 * "<!-- recipe: a -->\n```\nb\n```\n"):
        with pytest.raises(AssertionError):
            read_blocks(text)


def test_what_a_product_prints_is_reported(start, capsys):
    with start("echo what it says") as product:
        product.ends()
    assert "what it says" in capsys.readouterr().out


@pytest.mark.parametrize(
    "program, why",
    [
        ("raise SystemExit(1)", "1"),
        ("print('Traceback')", "Traceback"),
        ("import os, time; os.fork() or time.sleep(600)", "processes are left"),
    ],
)
def test_a_bad_end_is_noticed(start, put, program, why):
    put("main.py", program)
    with start("python main.py") as product:
        product.process.wait()
        product.limit_s = 0.3
        with pytest.raises(AssertionError, match=why):
            product.ends()
