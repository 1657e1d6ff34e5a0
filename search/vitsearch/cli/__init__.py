"""The command line: vitsearch. The only place that imports typer and rich."""
