"""What the engine has, and how far an answer that it gave earlier is trusted."""
