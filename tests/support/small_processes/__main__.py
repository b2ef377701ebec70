import sys

from small_processes import main

main(dict(enumerate(sys.argv)))
