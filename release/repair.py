"""cibuildwheel's repair command: python release/repair.py WHEEL FOLDER.

Debug symbols go to the folder DEBUG_SYMBOLS, as cibuildwheel brings nothing but wheels out of its container; by default
to FOLDER/debug.
"""

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from wheels import split_debug  # noqa: E402

wheel, folder = sys.argv[1:]
split_debug(wheel, os.environ.get("DEBUG_SYMBOLS") or os.path.join(folder, "debug"))
subprocess.run(["auditwheel", "repair", "-w", folder, wheel], check=True)
