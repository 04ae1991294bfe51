"""The tutorial's programs with aiohttp print what their page shows, on asyncio and on cloop."""

import pytest

pytest.importorskip("aiohttp")


@pytest.mark.parametrize("name", ["tutorial/20_download.py", "tutorial/21_web.py"])
def test_prints_what_its_page_shows(example, tutorial, name):
    done = example(name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == tutorial[name]
