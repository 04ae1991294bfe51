"""Sphinx: `make docs` builds these pages, without a warning, and runs what they show."""

import inspect
import os
import re
import runpy
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

project = "cloop"
copyright = "The cloop authors"
version = release = runpy.run_path(os.path.join(ROOT, "cloop", "_version.py"))["__version__"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "cloop"
html_static_path = []
pygments_style = "friendly"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
autodoc_member_order = "alphabetical"
autodoc_typehints = "none"

HOME = "https://github.com/cloop-asyncio/cloop"

# What asyncio has no docstring for.
SAID_HERE = {
    "create_unix_connection": "Connect to a Unix socket server; return (transport, protocol).",
    "getnameinfo": "Return what socket.getnameinfo() answers, looked up in the default executor.",
    "set_debug": "Switch asyncio's debug mode of this loop on or off.",
    "set_default_executor": "Set the executor that run_in_executor(None, ...) uses.",
    "set_name": "Set the task's name.",
    "slow_callback_duration": "In debug mode, a callback that takes longer, in seconds, is logged.",
    "sock_sendfile": "Send a file through a socket, by sendfile(2) where possible; return the number of bytes.",
    "subprocess_exec": "Start a program; return (transport, protocol).",
    "subprocess_shell": "Start a shell command; return (transport, protocol).",
}


def plain(app, what, name, obj, options, lines):
    """Docstrings are no reStructuredText. Of asyncio's own the first paragraph is taken."""
    last = name.rpartition(".")[2]
    text = inspect.cleandoc("\n".join(lines)) or SAID_HERE.get(last, "")
    if not is_ours(obj):
        text = text.partition("\n\n")[0]
    text = re.sub(r"([*`|_\\])", r"\\\1", text)
    lines[:] = [line.strip() if line.strip() else "" for line in text.splitlines()]


def is_ours(obj):
    module = getattr(obj, "__module__", None) or getattr(getattr(obj, "__objclass__", None), "__module__", "")
    return module.startswith("cloop")


def links_of_included_files(app, docname, source):
    """Those of the files above docs/ lead to pages here, or to the repository. Examples come along, as downloads."""
    if docname in ("contributing", "changelog"):
        path = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}[docname]
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            text = file.read()
        text = re.sub(r"\]\(docs/([^)]*)\)", r"](\1)", text)
        source[0] = re.sub(r"\]\((?![a-z]+:|#)(?!decisions/|[a-z]+\.md)([^)]+)\)", r"](%s/blob/main/\1)" % HOME, text)
    up = re.escape("../" * (docname.count("/") + 1)) + r"(?!examples/\S+\.(?:py|ipynb)\))"
    source[0] = re.sub(r"\]\(%s([^)]+)\)" % up, r"](%s/blob/main/\1)" % HOME, source[0])


def setup(app):
    app.connect("autodoc-process-docstring", plain)
    app.connect("source-read", links_of_included_files)
