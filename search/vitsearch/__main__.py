from vitsearch.cli.app import main

main()
