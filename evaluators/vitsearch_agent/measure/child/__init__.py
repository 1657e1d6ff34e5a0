"""What runs inside the measuring process. Only this code imports a runtime."""
