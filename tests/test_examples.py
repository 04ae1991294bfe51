"""The examples, each in a process of its own, on asyncio and on cloop; the tests speak to them from outside.

Those that need libraries are in tests/ecosystem/test_examples.py."""

import http.client
import http.server
import select
import socket
import ssl
import struct
import threading

import pytest

pytestmark = pytest.mark.slow

LIMIT_S = 20


@pytest.fixture
def connect():
    """Connects to a port; the sockets are closed after the test."""
    made = []

    def connect(port):
        made.append(socket.create_connection(("127.0.0.1", port), LIMIT_S))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def read_until(client, end):
    data = b""
    while not data.endswith(end):
        piece = client.recv(65536)
        assert piece, data
        data += piece
    return data


# The tour, and the pool


def test_hello(example):
    done = example("hello.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "six times seven is 42" in done.stdout and "STEADY" in done.stdout


def test_process_pool(example):
    done = example("process_pool.py", args=["--below", "20000", "--workers", "2", "--step", "1500"])
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "2262 primes below 20000\n")


# chat.py


def test_chat(served, connect):
    with served("chat.py", "--port", "0") as server:
        ada, bob, again = connect(server.port), connect(server.port), connect(server.port)
        ada.sendall(b"ada\n")
        assert read_until(ada, b"0 others\n") == b"your name?\n* ada is here, with 0 others\n"
        bob.sendall(b"bob\n")
        assert read_until(bob, b"1 others\n") == b"your name?\n* bob is here, with 1 others\n"
        assert read_until(ada, b"\n") == b"* bob is here, with 1 others\n"
        again.sendall(b"ada\n")
        assert read_until(again, b"one\n") == b"your name?\nnot that one\n"
        bob.sendall(b"hello\nhow are you?\n")
        assert read_until(ada, b"you?\n") == b"bob: hello\nbob: how are you?\n"
        bob.shutdown(socket.SHUT_WR)
        assert read_until(ada, b"left\n") == b"* bob has left\n"
        server.stop()
        assert read_until(ada, b"\n") == b"* the end\n" and ada.recv(1) == b""


def test_chat_drops_who_does_not_read(served, connect):
    with served("chat.py", "--port", "0") as server:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(LIMIT_S)
        with deaf:
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(b"deaf\n")
            read_until(deaf, b"0 others\n")
            ada = connect(server.port)
            ada.sendall(b"ada\n")
            read_until(ada, b"1 others\n")
            line = b"x" * 4000 + b"\n"
            for _ in range(10000):
                ada.sendall(line)
                if select.select([ada], [], [], 0)[0]:
                    break
            assert read_until(ada, b"\n") == b"* deaf has left\n"


# http_proxy.py


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = ("%s %s" % (self.path, self.headers["Host"])).encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one", b"two" * 50000):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/end":
            self.end_headers()
            self.wfile.write(b"until the end" * 10000)
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Seen", ",".join(sorted(name.lower() for name in self.headers)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


@pytest.fixture
def upstream():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield "127.0.0.1:%d" % server.server_address[1]
        server.shutdown()
        thread.join()


def test_proxy_forwards(served, upstream):
    with served("http_proxy.py", "--port", "0") as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)

        def ask(method, path, body=None, **headers):
            client.request(method, "http://%s%s" % (upstream, path), body, headers)
            response = client.getresponse()
            return response, response.read()

        response, body = ask("GET", "/a?b=c")
        sock = client.sock
        assert (response.status, body) == (200, b"/a?b=c " + upstream.encode())
        assert response.msg.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert ask("GET", "/missing")[0].status == 404
        assert ask("HEAD", "/a")[1] == b""
        assert ask("GET", "/chunks")[1] == b"one" + b"two" * 50000
        much = bytes(range(256)) * 4000
        headers = {"Proxy-Connection": "keep-alive", "X-Hop": "1", "Connection": "X-Hop", "X-End": "2"}
        response, body = ask("POST", "/", much, **headers)
        assert body == much[::-1]
        assert response.msg["X-Seen"] == "accept-encoding,connection,content-length,host,x-end"
        assert client.sock is sock, "one connection for all"
        response, body = ask("GET", "/end")
        assert body == b"until the end" * 10000 and client.sock is None
        client.close()


def test_proxy_makes_tunnels(served, upstream):
    with served("http_proxy.py", "--port", "0") as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_S)
        client.set_tunnel("127.0.0.1", int(upstream.rpartition(":")[2]))
        for _ in range(2):
            client.request("GET", "/through")
            assert client.getresponse().read().startswith(b"/through ")
        client.close()


def test_proxy_refuses(served, connect):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = "127.0.0.1:%d" % unused.getsockname()[1]
        with served("http_proxy.py", "--port", "0") as server:
            for request, status in [
                ("GET /no/host HTTP/1.1", b"400"),
                ("GET ftp://host/ HTTP/1.1", b"400"),
                ("CONNECT %s HTTP/1.1" % nobody, b"502"),
                ("GET http://%s/ HTTP/1.1" % nobody, b"502"),
                ("nonsense", b""),
            ]:
                client = connect(server.port)
                client.sendall(request.encode() + b"\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(1000), b""))  # noqa: B023
                assert answer[9:12] == status, request


# tls_echo.py


def test_tls_echo_changes_its_certificate(served, connect, tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def renew(name):
        issued = authority.issue_cert("127.0.0.1", common_name=name)
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())

    def talk(client, data):
        client.sendall(data)
        return read_until(client, data[-1:])

    def name_of(client):
        return dict(pair[0] for pair in client.getpeercert()["subject"])["commonName"]

    def handshake():
        return context.wrap_socket(connect(server.port), server_hostname="127.0.0.1")

    renew("first")
    with served("tls_echo.py", "--port", "0", "--cert", str(cert), "--key", str(key), begins="process ") as server:
        with handshake() as old:
            assert name_of(old) == "first" and talk(old, b"hello\n") == b"hello\n"
            renew("second")
            server.reload()
            assert server.line() == "loaded the certificate\n"
            with handshake() as new:
                assert name_of(new) == "second" and talk(new, b"x" * 100000 + b"\n") == b"x" * 100000 + b"\n"
            assert talk(old, b"still here\n") == b"still here\n"
            key.write_text("no key")
            server.reload()
            assert server.line().startswith("kept the certificate: ")
            with handshake() as new:
                assert name_of(new) == "second"


# dns_forwarder.py


def query(number, name):
    labels = b"".join(bytes([len(label)]) + label for label in name.split(b"."))
    return struct.pack(">6H", number, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def answer_to(message, address):
    rest = b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return message[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + message[12:] + rest


@pytest.fixture
def udp():
    """A socket that sends and receives datagrams on a port of its own."""
    made = []

    def udp():
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made[-1].bind(("127.0.0.1", 0))
        made[-1].settimeout(LIMIT_S)
        return made[-1]

    yield udp
    for each in made:
        each.close()


def test_dns_forwarder(served, udp):
    upstream, one, other = udp(), udp(), udp()
    name = "127.0.0.1:%d" % upstream.getsockname()[1]
    with served("dns_forwarder.py", "--port", "0", "--upstream", name) as server:
        address = ("127.0.0.1", server.port)
        one.sendto(b"short", address)
        one.sendto(query(7, b"one.example"), address)
        first, forwarder = upstream.recvfrom(1000)
        other.sendto(query(7, b"other.example"), address)
        second, _ = upstream.recvfrom(1000)
        assert (first[2:], second[2:]) == (query(7, b"one.example")[2:], query(7, b"other.example")[2:])
        assert first[:2] != second[:2]

        upstream.sendto(answer_to(first[:2] + query(0, b"evil.example")[2:], "192.0.2.66"), forwarder)  # dropped
        udp().sendto(answer_to(first, "192.0.2.66"), forwarder)  # from somebody else
        upstream.sendto(answer_to(second, "192.0.2.2"), forwarder)
        upstream.sendto(answer_to(first, "192.0.2.1"), forwarder)
        upstream.sendto(answer_to(first, "192.0.2.66"), forwarder)  # answered by now
        assert other.recv(1000) == answer_to(query(7, b"other.example"), "192.0.2.2")
        assert one.recv(1000) == answer_to(query(7, b"one.example"), "192.0.2.1")

        one.sendto(query(8, b"last.example"), address)
        last, _ = upstream.recvfrom(1000)
        upstream.sendto(answer_to(last, "192.0.2.3"), forwarder)
        assert one.recv(1000) == answer_to(query(8, b"last.example"), "192.0.2.3")


# metrics.py


def test_metrics(served, connect, loop_kind):
    with served("metrics.py", "--port", "0", "--metrics-port", "0") as server:
        metrics_port = int(server.line().rpartition(":")[2])

        def scrape(path="/metrics"):
            client = http.client.HTTPConnection("127.0.0.1", metrics_port, timeout=LIMIT_S)
            client.request("GET", path)
            response = client.getresponse()
            text = response.read().decode()
            client.close()
            assert response.status == (200 if path == "/metrics" else 404)
            return dict(line.split() for line in text.splitlines() if path == "/metrics" and line[0] != "#")

        before = scrape()
        client = connect(server.port)
        client.sendall(b"hello\n")
        read_until(client, b"hello\n")
        after = scrape()
        assert before["echo_connections_total"] == "0" and after["echo_connections_total"] == "1"
        assert after["echo_bytes_total"] == "6" and after["echo_connections_open"] == "1"
        assert int(after["loop_tasks"]) >= 3 and float(after["loop_lateness_worst_seconds"]) >= 0
        if loop_kind == "asyncio":
            assert "loop_turns_total" not in after
        else:
            assert int(after["loop_turns_total"]) > int(before["loop_turns_total"])
        scrape("/other")
