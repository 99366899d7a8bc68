"""Import this module to put the project folders on the search path, for code that spans several projects.

A project's own scripts do not need it: Python puts the script's folder on the path.
"""

import sys

from lab.files import ROOT

FOLDERS = ("00_first_steps", "01_q_learning_maze", "02_transformer_basics", "03_ppo_reacher")

for folder in FOLDERS:
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))
