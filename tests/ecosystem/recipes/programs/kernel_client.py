# needs: ipykernel jupyter_client
import queue

from jupyter_client.manager import start_new_kernel

CODE = """
import asyncio
await asyncio.sleep(0.001)
kind = type(asyncio.get_running_loop())
print(kind.__module__ + "." + kind.__qualname__)
"""
WAITS = """
print("it waits", flush=True)
await asyncio.sleep(600)
"""


def interrupt_a_cell_that_awaits(manager, client):
    """The button with the square: the cell ends with KeyboardInterrupt, and the kernel goes on."""
    asked = client.execute(WAITS)
    while client.get_iopub_msg(timeout=60)["content"].get("text") != "it waits\n":
        pass
    manager.interrupt_kernel()
    while True:
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == asked:
            assert reply["content"].get("ename") in ("KeyboardInterrupt", "CancelledError"), reply["content"]
            return


manager, client = start_new_kernel(kernel_name="cloop")
try:
    client.execute_interactive("import asyncio", timeout=60)
    try:
        interrupt_a_cell_that_awaits(manager, client)
    except queue.Empty:
        raise SystemExit("the interrupt did not reach the cell") from None
    client.execute_interactive(CODE, timeout=60)
finally:
    client.stop_channels()
    manager.shutdown_kernel()
