/* Python.h includes it up to 3.8, and zig has none. Nothing of it is used. */
