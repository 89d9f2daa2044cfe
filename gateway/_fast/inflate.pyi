"""gzip and deflate bodies, inflated with a bound; nothing that Python calls. The C contract is inflate.pxd."""
