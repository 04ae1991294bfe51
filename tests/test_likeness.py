"""Every public method of the objects that users hold, compared with asyncio's of this Python: whether it is a
coroutine function, its signature, that it has a docstring, and the mock that autospec creates.
"""

import asyncio
import contextlib
import copy
import functools
import inspect
import os
import pickle
import socket
import ssl
import types
import warnings
import weakref
from unittest import mock

import pytest

# Deprecated since 3.14; what it says must be right as long as it is there.
pytestmark = pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction' is deprecated:DeprecationWarning")

trustme = pytest.importorskip("trustme")

# What only one side has, or what differs, with the reason.
MORE = {
    "loop": {
        "metrics": "cloop's own",
        "metrics_reset": "cloop's own",
        "set_slow_callback_hook": "cloop's own",
        "slow_callback_duration": "an attribute of the class here, of the object there",
        "sock_recvfrom": "on every Python",
        "sock_recvfrom_into": "on every Python",
        "sock_sendto": "on every Python",
        "shutdown_default_executor": "on every Python",
    },
    # A TLS transport is the protocol of the one below it as well, in one object.
    "tls": dict.fromkeys(
        [
            "buffer_updated",
            "connection_lost",
            "connection_made",
            "data_received",
            "eof_received",
            "get_buffer",
            "pause_writing",
            "resume_writing",
        ],
        "the transport of TLS is its own protocol",
    ),
}
# Keywords of newer releases, which uvloop accepts on every Python too (test_newer.py).
KEYWORDS = {"cleanup_socket", "reuse_address", "ssl_shutdown_timeout", "timeout"}
# `self` of a method in C can't be passed by keyword; nobody does that.
SELF = "self"


async def everything(loop, stack):
    """One of each, by name: its class and its object."""
    made = {"loop": loop, "future": loop.create_future(), "task": asyncio.current_task()}
    made["handle"] = loop.call_soon(int)
    made["timer"] = loop.call_later(1000, int)
    made["threadsafe"] = loop.call_soon_threadsafe(int)
    made["timer"].cancel()

    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    for name, listen, connect in (
        ("tcp", {}, {}),
        ("tls", {"ssl": server_context}, {"ssl": client_context, "server_hostname": "localhost"}),
    ):
        accepted = loop.create_future()
        server = await asyncio.start_server(
            lambda *streams, accepted=accepted: accepted.set_result(streams), "127.0.0.1", 0, **listen
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2], **connect)
        made[name + " server"] = server
        made[name + " reader"], made[name + " writer"], made[name] = reader, writer, writer.transport
        made[name + " server's reader"], made[name + " server's writer"] = await accepted
        made[name + " protocol"] = writer.transport.get_protocol()
        stack.callback(server.close)
        stack.callback(writer.transport.abort)
        stack.callback(made[name + " server's writer"].transport.abort)

    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    made["unix"], _ = await loop.create_unix_connection(asyncio.Protocol, sock=ours)
    made["udp"], _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    readable, writable = os.pipe()
    made["read pipe"], _ = await loop.connect_read_pipe(asyncio.Protocol, open(readable, "rb", 0))
    made["write pipe"], _ = await loop.connect_write_pipe(asyncio.Protocol, open(writable, "wb", 0))
    for name in "unix", "udp", "read pipe", "write pipe":
        stack.callback(made[name].close)

    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    made["process"], made["subprocess"] = process, process._transport
    made["child's stdin"], made["child's stdout"] = process.stdin, process.stdout
    made["child's stdin transport"] = process.stdin.transport
    made["child's stdout transport"] = process.stdout._transport
    process.stdin.close()
    await process.wait()
    stack.callback(process._transport.close)
    return made


NAMES = [
    "loop", "future", "task", "handle", "timer", "threadsafe",
    "tcp", "tcp server", "tcp reader", "tcp writer", "tcp server's reader", "tcp server's writer", "tcp protocol",
    "tls", "tls server", "tls reader", "tls writer", "tls server's reader", "tls server's writer", "tls protocol",
    "unix", "udp", "read pipe", "write pipe",
    "process", "subprocess", "child's stdin", "child's stdout", "child's stdin transport", "child's stdout transport",
]  # fmt: skip


@pytest.fixture
def pair(loop, loop_kind):
    """Creates everything on both loops; returns both by name, asyncio's first."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio is what it is compared with")
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # iscoroutinefunction() of asyncio is deprecated on 3.14
        other = asyncio.SelectorEventLoop()
        stack.callback(other.close)
        made = []
        for each in other, loop:
            asyncio.set_event_loop(each)
            with contextlib.suppress(AttributeError, NotImplementedError):  # 3.8 to 3.11: by the main thread's loop
                asyncio.get_child_watcher().attach_loop(each)
            stack.callback(each.run_until_complete, asyncio.sleep(0.0))
            stack.callback(each.run_until_complete, asyncio.sleep(0.0))
            cleanup = stack.enter_context(contextlib.ExitStack())
            made.append(each.run_until_complete(everything(each, cleanup)))
        assert set(made[0]) == set(made[1]) == set(NAMES)
        yield made
        asyncio.set_event_loop(None)
        made.clear()


def public(holder):
    return {name for name in dir(holder) if not name.startswith("_")}


def parameters(function):
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return [
        (each.name, each.kind if each.name != SELF else None, each.default) for each in signature.parameters.values()
    ]


def differences(name, asyncios, ours):
    """How `ours` differs from `asyncios`, one line each."""
    allowed = MORE.get(name, {})
    for attribute in sorted((public(asyncios) ^ public(ours)) - set(allowed)):
        yield "%s is only %s" % (attribute, "asyncio's" if hasattr(asyncios, attribute) else "ours")
    for attribute in sorted(public(asyncios) & public(ours)):
        expected, found = getattr(asyncios, attribute), getattr(ours, attribute)
        if not callable(expected) or isinstance(expected, type):
            continue
        for check in inspect.iscoroutinefunction, asyncio.iscoroutinefunction:
            if check(expected) != check(found):
                yield "%s.iscoroutinefunction(%s) is %s" % (check.__module__, attribute, check(found))
        wanted = parameters(expected)
        shown = parameters(found)
        if wanted is not None and shown is not None:
            shown = [each for each in shown if each[0] not in KEYWORDS or each in wanted]
        if wanted != shown:
            yield "the signature of %s is %s, not %s" % (attribute, shown, wanted)
        if inspect.getdoc(expected) and not inspect.getdoc(found):
            yield "%s has no docstring" % attribute


def undocumented(holder):
    """Methods of ours without a docstring; inherited ones are as asyncio has them."""
    for attribute in sorted(public(holder)):
        for cls in holder.__mro__:
            if attribute in vars(cls):
                mine = cls.__module__.startswith("cloop") and callable(vars(cls)[attribute])
                if mine and not inspect.getdoc(getattr(holder, attribute)):
                    yield attribute
                break


def kinds(spec, **options):
    """What create_autospec() makes of each public method."""
    made = mock.create_autospec(spec, **options)
    return {name: type(getattr(made, name)).__name__ for name in public(spec) if callable(getattr(spec, name, None))}


def test_methods_are_as_asyncios(pair):
    asyncios, ours = pair
    found = {}
    for name in NAMES:
        found[name] = list(differences(name, asyncios[name], ours[name]))
        found["class of " + name] = list(differences(name, type(asyncios[name]), type(ours[name])))
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_classes_have_asyncios_signatures(cloop):
    for name in "Future", "Task":
        assert inspect.signature(getattr(cloop, name)) == inspect.signature(getattr(asyncio, name))


def test_methods_have_docstrings(pair):
    protocols = set(MORE["tls"])
    found = {name: set(undocumented(type(made))) for name, made in pair[1].items()}
    found["tls"] -= protocols
    found["tls protocol"] = set()
    assert {name: attributes for name, attributes in found.items() if attributes} == {}


def test_autospec_makes_the_same_kinds(pair):
    asyncios, ours = pair
    for name in NAMES:
        for expected, found, options in (
            (asyncios[name], ours[name], {}),
            (type(asyncios[name]), type(ours[name]), {"instance": True}),
        ):
            wanted, shown = kinds(expected, **options), kinds(found, **options)
            both = wanted.keys() & shown.keys()
            assert {each: shown[each] for each in both} == {each: wanted[each] for each in both}, name


# The methods in C that look like functions


COROUTINES = [
    "create_connection", "create_server", "getaddrinfo", "sendfile", "start_tls", "connect_accepted_socket",
    "sock_accept", "sock_connect", "sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into",
    "sock_sendall", "sock_sendto",
]  # fmt: skip
NATIVE = [name for name in COROUTINES if name.startswith("sock_")] + ["create_task"]


@pytest.mark.parametrize("name", COROUTINES)
def test_patched_with_autospec_it_can_be_awaited(loop, run, name):
    if not hasattr(loop, name):
        pytest.skip("not in this asyncio")
    with mock.patch.object(loop, name, autospec=True) as mocked:
        assert isinstance(mocked, types.FunctionType) and asyncio.iscoroutinefunction(mocked)
        names = [each for each in inspect.signature(mocked).parameters.values() if each.default is each.empty]
        arguments = [each.name for each in names if each.kind is each.POSITIONAL_OR_KEYWORD]
        mocked.return_value = "made"
        assert run(getattr(loop, name)(*arguments)) == "made"
        mocked.assert_awaited_once_with(*arguments)
        with pytest.raises(TypeError):
            run(getattr(loop, name)(*arguments, no_such_keyword=1))


@pytest.fixture
def native(cloop, loop):
    if not isinstance(loop, cloop.Loop):
        pytest.skip("of cloop")
    return loop


@pytest.mark.parametrize("name", NATIVE)
def test_native_method_is_a_function_to_who_looks(native, name):
    function, method = getattr(type(native), name), getattr(native, name)
    assert inspect.isfunction(function) and inspect.ismethod(method)
    assert method.__func__ is function and method.__self__ is native
    assert function.__name__ == name and function.__qualname__.endswith("." + name)
    assert function.__code__.co_varnames[0] == "self"
    assert name in repr(function)
    assert pickle.loads(pickle.dumps(function)) is function
    assert copy.deepcopy(function) is function
    assert weakref.WeakMethod(method)() == method
    assert functools.partial(method).func == method
    assert callable(function) and inspect.getsource(function)


def test_native_method_takes_self_first(native, run, socket_pair_of_sockets):
    one, other = socket_pair_of_sockets
    other.send(b"abc")
    assert run(type(native).sock_recv(native, one, 1)) == b"a"
    assert run(type(native).sock_recv(native, sock=one, n=1)) == b"b"
    assert run(native.sock_recv(*[one], **{"n": 1})) == b"c"


@pytest.fixture
def socket_pair_of_sockets():
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


@pytest.mark.parametrize("name", NATIVE)
def test_wrong_arguments_are_refused_as_of_a_function(native, name):
    function = getattr(type(native), name)
    for arguments, keywords in ((), {}), ((native,), {"no_such": 1}), ((native, 1, 2, 3, 4, 5), {}):
        with pytest.raises(TypeError):
            result = function(*arguments, **keywords)
            result.close()
            raise AssertionError(result)


def test_attributes_are_kept(native):
    function = type(native).sock_recv
    function.mark = 1
    try:
        assert native.sock_recv.mark == 1
    finally:
        del function.mark
    assert not hasattr(function, "mark")


def test_native_method_can_be_overridden_and_called_from_there(cloop, new_loop, socket_pair_of_sockets):
    class Sub(cloop.Loop):
        async def sock_recv(self, sock, n):
            return b"<" + await super().sock_recv(sock, n) + b">"

    if new_loop().__class__.__module__.startswith("asyncio"):
        pytest.skip("of cloop")
    one, other = socket_pair_of_sockets
    other.send(b"abc")
    assert (lambda loop: loop.run_until_complete(loop.sock_recv(one, 3)))(new_loop(Sub)) == b"<abc>"


# Names made at run time


def at_run_time(name):
    made = "".join(list(name))
    assert made is not name or len(name) < 2
    return made


EXTRA = [
    "socket", "sockname", "peername", "pipe", "subprocess",
    "sslcontext", "ssl_object", "peercert", "cipher", "compression", "nonsense",
]  # fmt: skip


@pytest.mark.parametrize("kind", [str, type("Text", (str,), {})])
def test_extra_info_is_asked_by_names_made_at_run_time(pair, kind):
    for made in pair:
        for holder in NAMES:
            if not hasattr(made[holder], "get_extra_info"):
                continue
            for name in EXTRA:
                default = object()
                expected = made[holder].get_extra_info(name, default)
                found = made[holder].get_extra_info(kind(at_run_time(name)), default)
                same = found == expected or repr(found) == repr(expected)
                assert same, (holder, name)
    for holder in NAMES:
        if hasattr(pair[0][holder], "get_extra_info"):
            for name in EXTRA:
                answers = [made[holder].get_extra_info(name) for made in pair]
                assert (answers[0] is None) == (answers[1] is None), (holder, name)


def test_socket_asked_for_by_a_name_made_at_run_time_finds_all_written(loop, run, turn):
    """Whoever takes the descriptor may shut it down: what was written in the same callback is sent before."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = run(loop.create_connection(asyncio.Protocol, sock=ours))

        def write_and_shut_down():
            transport.write(b"all of it")
            transport.get_extra_info(at_run_time("socket")).shutdown(socket.SHUT_WR)

        loop.call_soon(write_and_shut_down)
        turn()
        theirs.settimeout(10)
        assert theirs.recv(100) == b"all of it"
        transport.abort()
        turn()


def test_context_given_by_a_name_made_at_run_time(loop, turn):
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 1)
    seen = []
    note = {at_run_time("context"): context}
    future = loop.create_future()
    future.add_done_callback(lambda future: seen.append(variable.get()), **note)
    loop.call_soon(lambda: seen.append(variable.get()), **note)
    loop.call_later(0, lambda: seen.append(variable.get()), **note)
    loop.call_soon_threadsafe(lambda: seen.append(variable.get()), **note)
    future.set_result(None)
    while len(seen) < 4:
        turn()
    assert seen == [1, 1, 1, 1]
