"""The machines on which stages run: what a stage asks for and takes, and what happens when one is lost. No Ray."""
