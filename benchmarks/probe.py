"""Tells the parent, in JSON, what one Python and its event loops are.

python -m benchmarks.probe LOOP...
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
from typing import Any, Dict, List

from benchmarks.loops import is_over, loop_version, open_loop


def probe(loop_names: List[str]) -> Dict[str, Any]:
    versions: Dict[str, str] = {}
    absent: Dict[str, str] = {}
    for name in loop_names:
        if is_over(name) and name.partition("+")[2] in absent:
            continue  # which is said already
        try:
            open_loop(name).close()
            versions[name] = loop_version(name)
        except Exception as exc:  # whatever a foreign module raises, we go on
            absent[name] = "{}: {}".format(type(exc).__name__, exc)
    build = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return {
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
        "version_info": list(sys.version_info[:2]),
        "compiler": platform.python_compiler(),
        "optimized": "--enable-optimizations" in build,
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "libc": " ".join(platform.libc_ver()),
        "openssl": _openssl(),
        "cloop": _cloop_build() if "cloop" in versions else None,
        "packages": _packages(),
        "loops": versions,
        "absent": absent,
    }


def _openssl() -> str:
    try:
        import ssl
    except ImportError:
        return "none"
    return ssl.OPENSSL_VERSION


def _cloop_build() -> Any:
    from cloop import _cloop

    return _cloop.build_info()


#: What rows use beside a loop.
PACKAGES = ("httptools", "h11", "uvicorn", "starlette", "websockets", "aiohttp", "asyncpg", "redis", "grpcio")


def _packages() -> Dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


if __name__ == "__main__":
    json.dump(probe(sys.argv[1:]), sys.stdout)
