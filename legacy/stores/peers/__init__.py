"""The stores of other frameworks: one file a family, named as the word before the ``+`` of its URLs."""
