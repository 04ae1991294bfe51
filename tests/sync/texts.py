"""Prints the hash of each family of cloop/_accelerate.py on this Python, and whether it is known.

With an argument, prints the hashed code, to diff two Pythons.
"""

import dis
import platform
import sys

from cloop import _accelerate, _texts


def main():
    print("# %s %s" % (platform.python_implementation(), platform.python_version()))
    for family in _accelerate.FAMILIES:
        found = _accelerate.digest(family.functions)
        print("%-24s %s %s" % (family.name, found, _texts.KNOWN.get(family.name, {}).get(found, "unknown")))
        if sys.argv[1:]:
            for path in family.functions:
                print("\n" + path)
                if _accelerate.function_of(path) is not None:
                    dis.dis(_accelerate.function_of(path).__code__)


if __name__ == "__main__":
    main()
