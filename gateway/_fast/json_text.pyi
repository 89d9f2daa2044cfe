"""JSON text, read and written in place; nothing that Python calls. The C contract is json_text.pxd."""
