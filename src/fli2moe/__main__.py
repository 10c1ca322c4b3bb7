"""`python -m fli2moe` is the command line."""

from fli2moe.cli import main

if __name__ == "__main__":
    main()
