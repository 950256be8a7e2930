"""`python -m gcc_search` is `gcc-search`."""

from gcc_search.cli import main

if __name__ == "__main__":
    main()
