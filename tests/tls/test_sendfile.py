"""sendfile() over TLS: by reading and writing, as the kernel cannot encrypt."""

import asyncio
import sys

import pytest

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        yield file


@pytest.mark.parametrize(
    "offset, count", [(0, None), (1000, None), (0, 10), (100000, 300000), (len(CONTENT), None), (0, 1 << 30)]
)
def test_parts_of_a_file(same, file, offset, count, side):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, side)
        expected = CONTENT[offset:][:count]
        file.seek(0)
        transport.write(b"before ")
        sending = stage.loop.create_task(stage.loop.sendfile(transport, file, offset, count))
        sent = peer.receive(7 + len(expected))
        stage.until(sending.done)
        transport.write(b" after")
        story = [event for event in protocol.story if event[0] not in ("pause", "resume")]
        whole = sent == b"before " + expected, sending.result() == len(expected)
        return whole, file.tell(), peer.receive(6), transport.get_protocol() is protocol, story

    whole, _, after, restored, story = same(body)["result"]
    assert whole == (True, True) and after == b" after" and restored and story == [("made",)]


def test_without_fallback(same, file):
    def body(stage):
        transport, peer = stage.connect(stage.recorder())
        told = stage.attempt(lambda: stage.loop.sendfile(transport, file, fallback=False))
        transport.write(b"fine")
        error, text = told
        return error, text.split("<")[0], peer.receive(4)  # the rest names the transport

    error, text, after = same(body)["result"]
    assert error == "RuntimeError" and text.startswith("fallback is disabled") and after == b"fine"


@pytest.mark.parametrize("how", ["closing", "closed", "text", "negative", "no file"])
def test_wrong_arguments(same, file, how, tmp_path):
    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        if how in ("closing", "closed"):
            transport.close()
        if how == "closed":
            peer.ending()
            stage.until(lambda: protocol.lost)
        arguments = {"negative": (file, -1), "no file": (object(),)}.get(how, (file,))
        if how == "text":
            with open(file.name) as text:
                return stage.attempt(lambda: stage.loop.sendfile(transport, text))
        return stage.attempt(lambda: stage.loop.sendfile(transport, *arguments))

    assert isinstance(same(body)["result"][0], str)


@pytest.fixture
def interrupted(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)

    def interrupted(stage, how):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol, kind="tcp")
        with path.open("rb") as file:
            sending = stage.loop.create_task(stage.loop.sendfile(transport, file))
            peer.receive(100000)
            if how == "reset":
                peer.reset()
            elif how == "abort":
                transport.abort()
            else:
                sending.cancel()
            outcome = stage.outcome(sending)
            if how != "cancelled":
                stage.until(lambda: protocol.lost)
            stage.settle()
            return outcome if how == "cancelled" else outcome[0], protocol.lost

    return interrupted


def test_cancelled(same, interrupted):
    assert same(lambda stage: interrupted(stage, "cancelled"))["result"] == ("cancelled", 0)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="asyncio goes on to read the file, and fails by an AttributeError"
)
@pytest.mark.parametrize("how", ["reset", "abort"])
def test_end_meanwhile(same, interrupted, how):
    assert same(lambda stage: interrupted(stage, how))["result"][0].startswith("Connection")


@pytest.mark.parametrize("how", ["reset", "abort"])
def test_end_meanwhile_of_our_own(alone, interrupted, how):
    assert interrupted(alone, how)[0].startswith("Connection")


def test_data_received_meanwhile_are_for_later(same, file):
    """Reading is paused while a file is sent."""

    def body(stage):
        protocol = stage.recorder()
        transport, peer = stage.connect(protocol)
        file.seek(0)
        sending = stage.loop.create_task(stage.loop.sendfile(transport, file))
        peer.send(b"hello")
        peer.receive(len(CONTENT))
        stage.until(sending.done)
        stage.until(lambda: protocol.data)
        return protocol.data, isinstance(transport, asyncio.Transport)

    assert same(body)["result"][0] == b"hello"
