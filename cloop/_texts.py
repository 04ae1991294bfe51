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
        "24e9a4a11fed4c54": 1,  # 3.8.18
        "93bccebac1ad5abf": 1,  # 3.9.18
        "0825104b655f2014": 1,  # 3.10.13
        "61fb7649f83ef5b4": 1,  # 3.11.7
        "edfeadc0b4715def": 1,  # 3.12.1
        "ee02c76f7d1108c5": 1,  # 3.13.0
        "61ce8b67f447ca83": 1,  # 3.14.8
        "da4c659a37b5d545": 1,  # 3.15.0
    },
    "Queue": {
        "cfb9c55d6f847b46": 1,  # 3.8.18
        "b12d7863882b4c57": 1,  # 3.9.18
        "b3474b1868946a9a": 1,  # 3.10.13
        "42d0ce0ddc1af8e9": 1,  # 3.11.7
        "a33db79685858702": 1,  # 3.12.1
        "d974d9159ecbd4d6": 2,  # 3.13.0
        "07fd1b5035661ac7": 2,  # 3.14.8
        "a764c4297235970b": 2,  # 3.15.0
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
}
