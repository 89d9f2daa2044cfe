def table() -> dict[str, tuple[int, int]]:
    """``{name: (number, itemsize)}`` as compiled, for the test that compares it with core.tensors."""
