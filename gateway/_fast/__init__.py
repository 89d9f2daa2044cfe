"""The compiled data path. Read the ``.pxd`` files; ``README.md`` beside them says how they are built."""
