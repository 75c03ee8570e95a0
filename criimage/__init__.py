"""criimage: one CRI image service for every image store on a Kubernetes node."""

__version__ = "0.3.0"
