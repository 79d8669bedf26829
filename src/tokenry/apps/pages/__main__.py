"""`python -m tokenry.apps.pages [--check] docs`."""

from tokenry.apps.pages.write import main

main()
