"""`python -m tokenry` is the command `tokenry`."""

from tokenry.apps.cli.main import main

if __name__ == "__main__":
    main()
