"""Tells the parent, in JSON, what one Python and its event loops are.

python -m benchmarks.probe LOOP...
"""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
from typing import Any, Dict, List

from benchmarks.loops import loop_version, open_loop


def probe(loop_names: List[str]) -> Dict[str, Any]:
    versions, absent = {}, {}
    for name in loop_names:
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
        "loops": versions,
        "absent": absent,
    }


if __name__ == "__main__":
    json.dump(probe(sys.argv[1:]), sys.stdout)
