"""The split of a model between its versions: 10,000 slots and how they move. Pure."""
