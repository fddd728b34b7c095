"""``python -m hubkeep``"""

from hubkeep.cli.main import main

main()
