"""What the work of several stages shares. It imports torch and timm: only workers import it."""
