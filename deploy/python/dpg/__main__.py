"""`python -m dpg`: the program `dpg`."""

import os
import sys

from .program import program

found = program()
os.execv(found, [str(found), *sys.argv[1:]])
