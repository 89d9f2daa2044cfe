"""``python -m loadtests`` is ``make bench``."""

from loadtests.bench import main

main()
