"""Where clients come in: the socket, who may connect and how many, and whose calls are answered."""
