"""python -m cloop: runs a program on cloop."""

from cloop._main import main

if __name__ == "__main__":
    main()
