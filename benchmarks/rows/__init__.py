"""The benchmarks, one module per family; registry.FAMILIES orders them."""
