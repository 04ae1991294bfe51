"""The texts of asyncio's primitives that csrc/sync was written against.

{family of cloop/_accelerate.py: {hash of its functions: which of its bodies does what they do}}. The hashes of a Python
are printed by `python tests/sync/texts.py`; docs/accelerate.md says what to read before one is added.
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
        "121b52ef799ecf20": 1,  # 3.8.18
        "6ac3fd6f64b408f9": 1,  # 3.9.18
        "66fd82ecc77f7ed3": 1,  # 3.10.13
        "e937e50fc27c46c7": 1,  # 3.11.7
        "70f5466477b7106f": 1,  # 3.12.1
        "f8ccc6bb01a7bcbf": 1,  # 3.13.0
        "f52fa366ee72cc32": 1,  # 3.14.8
        "eb8f6f25ce727272": 1,  # 3.15.0
    },
}
