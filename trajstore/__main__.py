"""`python -m trajstore`: the command line."""

from trajstore.cli import main

main()
