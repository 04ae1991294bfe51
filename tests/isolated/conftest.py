"""What tests of system calls share."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import injection  # noqa: E402


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library that counts cloop's system calls and allocations, and makes them fail: faults.c."""
    built = injection.shim(str(tmp_path_factory.mktemp("shim")))
    if built is None:
        pytest.skip("there is no C compiler")
    return built


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with the certificates of an authority and of localhost, and the key."""
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "chain.pem"))
    return str(folder)
