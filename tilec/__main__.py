"""`python -m tilec`."""

from tilec.cli import main

main(prog_name="tilec")
