"""`python -m miaotui`."""

from miaotui.cli import main

main()
