"""A store's files as images, layers and usage, where the store is, and who may change it when."""
