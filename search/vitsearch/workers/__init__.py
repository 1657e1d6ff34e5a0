"""What runs on the workers, and the Ray tasks that start it. torch is imported from here down."""
