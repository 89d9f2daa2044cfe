"""The processes of the gateway: what each one runs, and how they are kept alive. See ``docs/architecture.md``."""
