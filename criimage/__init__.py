"""criimage: one CRI image service for every image store on a Kubernetes node."""
