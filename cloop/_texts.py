"""The texts of asyncio's primitives that csrc/sync was written for.

{family of cloop/_accelerate.py: {hash of its functions: number of the matching text}}. `python tests/sync/texts.py`
prints a Python's hashes; docs/accelerate.md says what to check before adding one.
"""

KNOWN = {
    "sleep": {
        "fbe690fcdd745551": 1,  # 3.8.18
        "f3d628b69865cbd9": 1,  # 3.9.18
        "c806817cc6057cd3": 1,  # 3.10.13
        "8fa61c02de9f25ae": 1,  # 3.11.7
        "fee4166e593cce53": 1,  # 3.12.1
        "ace121b6edcfa380": 1,  # 3.13.0
        "32faaebe6841e4fe": 1,  # 3.14.8
        "f1f0a659c7ee9b7c": 1,  # 3.15.0
    },
    "Event": {
        "ed32f6eb93fc30d9": 1,  # 3.8.18
        "3c68746f2626dd4a": 1,  # 3.9.18
        "5a00eabd8f826e3a": 1,  # 3.10.13
        "4336f4c6615ca89d": 1,  # 3.11.7
        "4f8993c13de02a3d": 1,  # 3.12.1
        "3a26538a1fe32bc1": 1,  # 3.13.0
        "53fc0967a587aeaa": 1,  # 3.14.8
        "09d36ce433526dbd": 1,  # 3.15.0
    },
    "Lock": {
        "afdbecac3e923ac5": 1,  # 3.8.18
        "b7d7da4a7a16b7e8": 1,  # 3.9.18
        "6e785d26b892beeb": 1,  # 3.10.13
        "4c9d0296bf9b1392": 1,  # 3.11.7
        "bf8cf7a491fd5858": 1,  # 3.12.1
        "9ab6eff28dca6ea0": 1,  # 3.13.0
        "801c901e25ae8a6e": 1,  # 3.14.8
        "8cc78a5ad72de069": 1,  # 3.15.0
    },
    "Condition": {
        "d987987db1f8956d": 1,  # 3.8.18
        "ef5a069db49e6cc3": 1,  # 3.9.18
        "1bdb67cc2b997470": 1,  # 3.10.13
        "cc3e9c6b4f4f339f": 1,  # 3.11.7
        "4b5d834a6d1dfec4": 1,  # 3.12.1
        "7ca9d11e934ecceb": 2,  # 3.13.0
        "f1fe3c0d195cd0ed": 2,  # 3.14.8
        "19dce3b781dbe086": 2,  # 3.15.0
    },
    "Queue": {
        "96d5c4ba6e703f73": 1,  # 3.8.18
        "215a1e292faff612": 1,  # 3.9.18
        "9552a2ffdd2be908": 1,  # 3.10.13
        "5acbdf551e10e047": 1,  # 3.11.7
        "65d4b30f65f299a0": 1,  # 3.12.1
        "885385e33e1fe5d2": 2,  # 3.13.0
        "356e1856d650aceb": 2,  # 3.14.8
        "da050e7d9bfae531": 2,  # 3.15.0
    },
    "gather": {
        "ca5f66edda301084": 1,  # 3.8.18
        "4d157e7b01fb7ae8": 2,  # 3.9.18
        "2ab554be6fe4933e": 2,  # 3.10.13
        "ff007b8c8bb2a151": 2,  # 3.11.7
        "96817ea8c499ea14": 3,  # 3.12.1
        "4a87af97ffef2913": 3,  # 3.13.0
        "d55461feb00059b0": 4,  # 3.14.8
        "09bb19d100d7de3a": 4,  # 3.15.0
    },
    "Semaphore": {
        "eea96d44a09626dd": 3,  # 3.8.18
        "8316d85390d1644b": 4,  # 3.9.18
        "93b86ddc75756e29": 1,  # 3.10.13
        "300dee4f3a8dec7d": 1,  # 3.11.7
        "3895d2f89ecdd2b7": 1,  # 3.12.1
        "8031c3bece74dee5": 2,  # 3.13.0
        "b0761df5742788d6": 2,  # 3.14.8
        "8ec931ae4336b741": 2,  # 3.15.0
    },
    "timeout": {
        "6f04c281d5a2fc6a": 1,  # 3.11.7
        "48841e598cabd03d": 1,  # 3.12.1
        "9bd5dfd2d7f99c51": 1,  # 3.13.0
        "4ac1752c65c574c2": 1,  # 3.14.8
        "e10fbb96f5123177": 1,  # 3.15.0
    },
    "open_connection": {
        "9e7a39d49f438dd0": 1,  # 3.8.18
        "29212d42df369c43": 1,  # 3.9.18
        "af26c778f6c389c8": 1,  # 3.10.13
        "a21522d11454638d": 1,  # 3.11.7
        "18c780d7d07f4a09": 1,  # 3.12.1
        "d55dfe3f3e39ae25": 1,  # 3.13.0
        "409a6d904d092d7b": 1,  # 3.14.8
        "b5bfa2c462838eca": 1,  # 3.15.0
    },
    "Barrier": {
        "aaec69f1a86f71dd": 1,  # 3.11.7
        "76edfb1ab7d6628c": 1,  # 3.12.1
        "ec8c7b1e3cd01df8": 1,  # 3.13.0
        "7650b26e949d18fe": 1,  # 3.14.8
        "9feb9b6cea7c11d3": 1,  # 3.15.0
    },
}
