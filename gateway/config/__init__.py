"""Files and environment to frozen specs; every problem at once, with file and path."""
