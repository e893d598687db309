"""What Python programs use of this package: plain NumPy arrays in, plain NumPy arrays out. See docs/python_api.md."""
