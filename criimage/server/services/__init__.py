"""What can be asked for: the image service, our own services, the standard ones, and what they answer with."""
