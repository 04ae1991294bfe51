# needs: ipykernel jupyter_client
from jupyter_client.manager import start_new_kernel

CODE = """
import asyncio
await asyncio.sleep(0.001)
kind = type(asyncio.get_running_loop())
print(kind.__module__ + "." + kind.__qualname__)
"""

manager, client = start_new_kernel(kernel_name="cloop")
try:
    client.execute_interactive(CODE, timeout=60)
finally:
    client.stop_channels()
    manager.shutdown_kernel()
