"""`python -m mmel_cli` is `mmel`."""

from mmel_cli.cli import main

if __name__ == "__main__":
    main()
