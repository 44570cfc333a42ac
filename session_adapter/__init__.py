"""Sessions on any storage: their documents, histories, states, and the views that read and write them."""
