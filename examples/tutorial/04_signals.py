"""Signals: their handlers are callbacks like any other, so they may do what callbacks may.

A handler of the signal module interrupts Python between any two instructions. One that add_signal_handler() has set
runs between two callbacks, on the loop's thread, and nothing is half done when it does.

Try: `--wait`, then `kill -HUP PID` and `kill -TERM PID` from another terminal.
"""

import argparse
import asyncio
import os
import signal


def reload(name: str) -> None:
    print("%s: read the configuration again" % name)


def stop(loop: asyncio.AbstractEventLoop, name: str) -> None:
    print("%s: stop" % name)
    loop.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wait", action="store_true", help="wait for signals instead of sending them")
    wait = parser.parse_args().wait

    loop = asyncio.new_event_loop()
    loop.add_signal_handler(signal.SIGHUP, reload, "SIGHUP")
    loop.add_signal_handler(signal.SIGTERM, stop, loop, "SIGTERM")
    if wait:
        print("process", os.getpid(), "waits", flush=True)
    else:
        loop.call_soon(os.kill, os.getpid(), signal.SIGHUP)
        loop.call_later(0.02, os.kill, os.getpid(), signal.SIGTERM)
    loop.run_forever()
    print("handler removed:", loop.remove_signal_handler(signal.SIGTERM))
    loop.close()


if __name__ == "__main__":
    main()
