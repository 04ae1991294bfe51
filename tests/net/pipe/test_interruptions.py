"""KeyboardInterrupt and SystemExit in the methods of a protocol leave the loop."""

import pytest

INTERRUPTIONS = pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])


def drained(peer):
    """What there is to read now."""
    try:
        return peer.recv(1 << 20)
    except BlockingIOError:
        return b""


@INTERRUPTIONS
def test_interruption_in_connection_made_leaves_the_loop(
    loop, run, turn, ends, ended, recorder, mode, interruption, raiser
):
    file, peer = ends("pipe", mode)
    protocol = recorder(connection_made=raiser(interruption))
    connect = loop.connect_read_pipe if mode == "rb" else loop.connect_write_pipe
    task = loop.create_task(connect(lambda: protocol, file))
    with pytest.raises(interruption):
        run(task)
    transport, _ = run(task)
    assert protocol.calls == ["connection_made"]
    transport.close()
    turn()
    assert protocol.lost == [None]


@INTERRUPTIONS
@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
def test_interruption_while_reading_leaves_the_loop(reading, recorder, until, turn, method, interruption, raiser):
    protocol = recorder(**{method: raiser(interruption)})
    transport, peer = reading(protocol)
    peer.send(b"x")
    peer.close()
    with pytest.raises(interruption):
        until(lambda: False)
    until(lambda: protocol.lost)
    assert protocol.calls == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert transport.get_extra_info("pipe").closed


@INTERRUPTIONS
def test_interruption_in_pause_writing_leaves_write(writing, recorder, collect, interruption, raiser):
    protocol = recorder(pause_writing=raiser(interruption))
    transport, peer = writing(protocol)
    with pytest.raises(interruption):
        transport.write(bytes(1000000))
    assert collect(peer, 1000000) == bytes(1000000)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


@INTERRUPTIONS
def test_interruption_in_resume_writing_leaves_the_loop(writing, recorder, collect, until, interruption, raiser):
    protocol = recorder(resume_writing=raiser(interruption))
    transport, peer = writing(protocol)
    transport.write(bytes(1000000))
    got = bytearray()
    with pytest.raises(interruption):
        until(lambda: got.extend(drained(peer)))
    got += drained(peer)
    assert len(got) == 1000000
    transport.write(b"still writing")
    transport.close()
    assert collect(peer) == b"still writing"
