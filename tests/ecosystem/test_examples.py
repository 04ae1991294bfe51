"""The examples that need libraries: WebSockets, and a notebook."""

import importlib.util
import json
import os
import sys

import pytest

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "examples")
LIMIT_S = 60

# In a process of its own: the client leaves what it has opened to the end of the process.
EXECUTE = """
import nbclient, nbformat, sys
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
nbclient.NotebookClient(notebook, kernel_name="tested", timeout=60).execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_websocket_broadcast(served, monkeypatch):
    client = pytest.importorskip("websockets.sync.client")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served("websocket_broadcast.py", "--port", "0") as server:
        url = "ws://127.0.0.1:%d/" % server.port

        def hear(connection):
            return json.loads(connection.recv(timeout=LIMIT_S))

        with client.connect(url) as one:
            assert hear(one) == {"event": "joined", "clients": 1}
            with client.connect(url) as other:
                assert hear(one) == hear(other) == {"event": "joined", "clients": 2}
                for number in range(100):
                    other.send("message %d" % number)
                for connection in (one, other):
                    heard = [hear(connection) for _ in range(100)]
                    assert heard == [{"event": "said", "text": "message %d" % number} for number in range(100)]
            assert hear(one) == {"event": "left", "clients": 1}


def test_notebook(loop_kind, event_loop_is, tmp_path, python, monkeypatch):
    """Its kernel is started as the first cell says; on asyncio, as Jupyter does."""
    for name in ("nbclient", "ipykernel"):  # not imported here, where they leave descriptors open
        if importlib.util.find_spec(name) is None:
            pytest.skip("there is no %s" % name)
    launcher = [] if loop_kind == "asyncio" else ["-m", "cloop"]
    argv = [sys.executable] + launcher + ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = tmp_path / "share" / "kernels" / "tested"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tested", "language": "python"}))
    for name in ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "share"))

    done = python("-c", EXECUTE, os.path.join(EXAMPLES, "notebook.ipynb"), tmp_path / "done.ipynb")
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "done.ipynb").read_text())["cells"]
    outputs = ["".join(each["text"]) for cell in cells for each in cell.get("outputs", ())]
    assert outputs[1:] == ["lift-off\n", "['READY', 'STEADY', 'GO']\n", "in the thread, cloop: True\n"]
    if loop_kind != "asyncio":
        assert outputs[0] == event_loop_is + "\n"
    else:
        assert "cloop" not in outputs[0]
