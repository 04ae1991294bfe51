"""What the tests use of trustme, by the openssl command: for interpreters that cannot import cryptography, which trustme
needs. Those are CPython 3.13 without a GIL, and an interpreter beside the main one.
"""

import contextlib
import datetime
import ipaddress
import os
import secrets
import shutil
import subprocess
import tempfile

if shutil.which("openssl") is None:
    raise ImportError("there is no openssl command")

CONFIGURATION = """
[req]
distinguished_name = name
prompt = no
[name]
O = certificates for tests
OU = {number}
{common_name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[issued]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key"]


class CA:
    def __init__(self):
        with folder(CONFIGURATION.format(number=secrets.token_hex(8), common_name="", names="DNS:none")) as run:
            run("req", "-x509", "-extensions", "authority", "-days", "3650", *NEW_KEY, "-out", "certificate")
            self.private_key_pem, self.cert_pem = Blob.read(run, "key"), Blob.read(run, "certificate")

    def configure_trust(self, context):
        context.load_verify_locations(cadata=self.cert_pem.bytes().decode())

    def issue_cert(self, *names, common_name=None, not_after=None):
        text = CONFIGURATION.format(
            number=secrets.token_hex(8),
            common_name="CN = " + common_name if common_name else "",
            names=", ".join(kind_of(name) + ":" + name for name in names),
        )
        days = "365"
        if not_after is not None:
            assert not_after < datetime.datetime.now(datetime.timezone.utc), "this knows only what has expired"
            days = "-1"
        with folder(text) as run:
            self.cert_pem.write_to_path(os.path.join(run.folder, "authority"))
            self.private_key_pem.write_to_path(os.path.join(run.folder, "authority-key"))
            run("req", "-new", *NEW_KEY, "-out", "request")
            issuing = ["-CA", "authority", "-CAkey", "authority-key", "-set_serial", "0x1" + secrets.token_hex(8)]
            issuing += ["-extfile", "configuration", "-extensions", "issued", "-days", days]
            run("x509", "-req", "-in", "request", *issuing, "-out", "certificate")
            return LeafCert(Blob.read(run, "key"), Blob.read(run, "certificate"))


class LeafCert:
    def __init__(self, key, certificate):
        self.private_key_pem, self.cert_chain_pems = key, [certificate]
        self.private_key_and_cert_chain_pem = Blob(key.bytes() + certificate.bytes())

    def configure_cert(self, context):
        with self.private_key_and_cert_chain_pem.tempfile() as path:
            context.load_cert_chain(path)


class Blob:
    def __init__(self, data):
        self.data = data

    @classmethod
    def read(cls, run, name):
        with open(os.path.join(run.folder, name), "rb") as file:
            return cls(file.read())

    def bytes(self):
        return self.data

    def write_to_path(self, path, append=False):
        with open(path, "ab" if append else "wb") as file:
            file.write(self.data)

    @contextlib.contextmanager
    def tempfile(self, dir=None):
        with tempfile.NamedTemporaryFile(suffix=".pem", dir=dir) as file:
            file.write(self.data)
            file.flush()
            yield file.name


def kind_of(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"


@contextlib.contextmanager
def folder(configuration):
    """A function that runs the openssl command in a folder with this configuration."""
    with tempfile.TemporaryDirectory() as path:
        with open(os.path.join(path, "configuration"), "w") as file:
            file.write(configuration)

        def run(*arguments):
            environment = dict(os.environ, OPENSSL_CONF=os.path.join(path, "configuration"))
            command = ["openssl"] + list(arguments)
            done = subprocess.run(command, cwd=path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert done.returncode == 0, done.stdout

        run.folder = path
        yield run
